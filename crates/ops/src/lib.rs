#![doc = include_str!("../README.md")]

mod admin;
mod cli;
mod dlq;
mod error;
mod output;
mod records;
mod services;

pub use cli::main;
