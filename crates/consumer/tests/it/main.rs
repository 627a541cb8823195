//! Tests of the consumer, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

mod attempts;
mod batches;
mod chains;
mod consuming;
mod database;
mod denied;
mod events;
mod feed;
mod foreign;
mod house;
mod lag;
mod letters;
mod lookups;
mod memory;
mod retention;
mod spans;
mod standing;
mod topics;
