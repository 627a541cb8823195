//! Tests of jobs, on real Postgres.

#![allow(clippy::unwrap_used)]

mod bulk;
mod crashes;
mod enqueueing;
mod failing;
mod house;
mod lanes;
mod locks;
mod operator;
mod removing;
mod running;
mod spans;
