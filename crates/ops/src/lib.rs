#![doc = include_str!("../README.md")]

mod cli;
mod client;
mod dlq;
mod error;
mod flow;
mod foreign;
mod lag;
mod output;
mod plain;
mod services;
mod shell;
mod show_flow;
mod subscriptions;

pub use cli::main;
pub use lag::{LAG_THRESHOLD, STALLED_AFTER};
