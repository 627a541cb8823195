#![doc = include_str!("../README.md")]

mod cli;
mod client;
mod dlq;
mod error;
mod flow;
mod foreign;
mod lag {
    pub(crate) mod position;
}
mod output;
mod plain;
mod services;
mod shell;
mod show_flow;
mod subscriptions;

pub use cli::main;
