//! The service as a black box, started by its production function on its own Postgres. Kafka is
//! unavailable unless a test needs it, so that events stay in the outbox, where the test reads
//! them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod app;
mod cancel;
mod complete;
mod database;
mod deferred;
mod direct;
mod flow;
mod gate;
mod group_commit;
mod idempotency;
mod memory;
mod neighbour;
mod outbox;
mod place;
mod read;
mod rollout;
mod update;
mod waiting;
