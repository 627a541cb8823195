//! The command `orderflow flow` as a black box.

#![allow(clippy::unwrap_used)]

mod fake;
mod follow;
mod lag;
#[path = "../parts/offsets.rs"]
mod offsets;
#[path = "../parts/output.rs"]
mod output;
mod page;
mod story;
#[path = "../parts/topics.rs"]
mod topics;
mod trees;
mod troubles;
