//! The command `orderflow dlq`, from outside.

mod groups;
mod letters;
mod replays;
mod terminal;
mod topic;
