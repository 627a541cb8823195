//! The command `orderflow` as a black box, with fake services whose responses the test sets.

#![allow(clippy::unwrap_used)]

mod acts;
mod completions;
mod console;
mod dlq;
mod fake;
mod jobs;
#[path = "../parts/output.rs"]
mod output;
mod status;
mod subscriptions;
mod terminal;
#[path = "../parts/topics.rs"]
mod topics;
