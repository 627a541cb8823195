#![doc = include_str!("../README.md")]

mod admin;
mod cli;
mod dlq;
mod error;
mod output;
mod records;
mod services;
mod subscriptions;

pub use cli::main;
