//! `orderflow serve` as a black box, on a real Kafka.

#![allow(clippy::unwrap_used)]

mod alerts;
mod house;
mod metrics;
mod service;
#[path = "../parts/topics.rs"]
mod topics;
