//! The consumer, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

mod consuming;
mod house;
mod spans;
