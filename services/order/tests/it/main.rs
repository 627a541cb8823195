//! The service from outside: started by its production function, on a Postgres of its own. Kafka is away unless
//! a test says otherwise, so that what is said stays in the outbox, where it can be looked at.

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
