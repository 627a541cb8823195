//! The command `orderflow dlq` as a black box.

mod groups;
mod letters;
mod replays;
mod terminal;
mod topic;
