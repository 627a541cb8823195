//! Tests of billing in its production wiring, on real Kafka and Postgres.

#![allow(clippy::unwrap_used)]

mod api;
mod consuming;
mod credits;
mod database;
mod direct;
mod flow;
mod house;
mod killed;
mod letters;
mod pooler;
mod rollback;
mod subscriptions;
mod topics;
