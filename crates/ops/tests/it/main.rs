//! The command `orderflow`, from outside, against services that answer as a test wants.

#![allow(clippy::unwrap_used)]

mod acts;
mod completions;
mod console;
mod dlq;
mod fake;
mod jobs;
mod status;
mod subscriptions;
mod terminal;
