//! `orderflow lag` as a black box, on a real Kafka.

#![allow(clippy::unwrap_used)]

mod broken;
mod house;
mod measured;
