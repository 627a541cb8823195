#![doc = include_str!("../README.md")]

mod acts;
mod alerts;
mod amount;
mod cli;
mod client;
mod completions;
mod console;
mod dlq;
mod error;
mod flow;
mod foreign;
mod jobs;
mod json;
mod lag;
mod moment;
mod output;
mod plain;
mod question;
mod serve;
mod services;
mod shell;
mod show_flow;
mod status;
mod style;
mod subscriptions;

pub use alerts::{ARRIVING_FOR, NEW_FOR, RULES, Rule};
pub use cli::{command_line, main};
pub use lag::{LAG_THRESHOLD, STALLED_AFTER};
