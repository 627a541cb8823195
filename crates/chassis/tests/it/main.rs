//! A small service made of the chassis, from outside: started by its production function, on a Postgres of its own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod conditions;
mod connections;
mod house;
mod idempotency;
mod limits;
mod memory;
mod metrics;
mod problems;
mod reload;
