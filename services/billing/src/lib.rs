#![doc = include_str!("../README.md")]

pub mod app;

mod api;
mod config;
mod consumers;
mod credit_notes;
mod documents;
mod store;

pub use config::Config;
