//! Tests on a real Postgres.

#![allow(clippy::unwrap_used)]

mod chunks;
mod log;
mod migrations;
mod pool;
mod pooler;
