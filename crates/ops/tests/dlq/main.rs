//! The command `orderflow dlq`, from outside.

#![allow(clippy::unwrap_used)]

mod fake;
mod letters;
mod replays;
mod terminal;
mod topic;
