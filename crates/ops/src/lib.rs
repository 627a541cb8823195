#![doc = include_str!("../README.md")]

mod alerts;
mod cli;
mod client;
mod dlq;
mod error;
mod flow;
mod foreign;
mod lag;
mod output;
mod plain;
mod serve;
mod services;
mod shell;
mod show_flow;
mod subscriptions;

pub use alerts::{ARRIVING_FOR, NEW_FOR, RULES, Rule};
pub use cli::main;
pub use lag::{LAG_THRESHOLD, STALLED_AFTER};
