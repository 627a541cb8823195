//! `orderflow lag` as a black box, on a real Kafka.

#![allow(clippy::unwrap_used)]

mod broken;
mod house;
mod measured;
#[path = "../parts/offsets.rs"]
mod offsets;
#[path = "../parts/output.rs"]
mod output;
#[path = "../parts/topics.rs"]
mod topics;
