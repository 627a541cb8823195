//! Notification, by its production wiring, on real Kafka and Postgres.

#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod api;
mod flow;
mod house;
mod jobs;
mod sending;
mod sink;
mod start;
mod webhooks;
mod writing;
