//! The tests that `make new-consumer` writes, on real Kafka and Postgres.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, unused_imports, reason = "the house is that of all of analytics' tests")]

// The house knows the service by its name.
extern crate scaffolded as analytics;

include!(concat!(env!("OUT_DIR"), "/analytics/tests/it/main.rs"));
