//! Tests of the relay, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

mod backlog;
mod depth;
mod house;
mod leaders;
mod log;
mod order;
mod pauses;
mod publishing;
mod refusals;
mod shards;
