//! The analytics service in its production wiring, on real Kafka and Postgres.

#![allow(clippy::unwrap_used)]

mod api;
mod basket;
mod flow;
mod history;
mod house;
mod life;
mod numbers;
mod track;
