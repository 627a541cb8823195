#![doc = include_str!("../README.md")]

mod acts;
mod amount;
mod cli;
mod client;
mod completions;
mod dlq;
mod error;
mod foreign;
mod jobs;
mod json;
mod moment;
mod output;
mod plain;
mod question;
mod services;
mod shell;
mod status;
mod style;
mod subscriptions;

pub use cli::main;
