#![doc = include_str!("../README.md")]

mod cli;
mod client;
mod dlq;
mod error;
mod foreign;
mod output;
mod plain;
mod services;
mod shell;
mod subscriptions;

pub use cli::main;
