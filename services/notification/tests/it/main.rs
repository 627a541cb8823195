//! The notification service in its production wiring, on real Kafka and Postgres.

#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod api;
mod direct;
mod discarded;
mod erasing;
mod flow;
mod house;
mod isolation;
mod jobs;
mod large_orders;
mod locks;
mod redelivery;
mod retention;
mod sending;
mod sink;
mod start;
mod target;
mod upgrade;
mod webhook_health;
mod webhook_owner;
mod webhooks;
mod wire;
mod writing;
