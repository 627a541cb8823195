//! `orderflow serve`, from outside, on a real Kafka.

#![allow(clippy::unwrap_used)]

mod alerts;
mod house;
mod metrics;
mod service;
