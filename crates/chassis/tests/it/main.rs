//! Tests a small service that is built on the chassis, from outside: its production function starts
//! it, on a separate Postgres.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod conditions;
mod connections;
mod erasures;
mod house;
mod idempotency;
mod limits;
mod memory;
mod metrics;
mod problems;
mod reload;
mod starting;
