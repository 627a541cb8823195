//! The command `orderflow flow` as a black box.

#![allow(clippy::unwrap_used)]

mod fake;
mod follow;
mod lag;
mod page;
mod story;
mod trees;
mod troubles;
