//! The consumer, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

mod attempts;
mod batches;
mod consuming;
mod house;
mod lag;
mod retention;
mod spans;
