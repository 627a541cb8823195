#![doc = include_str!("../README.md")]

mod activity;
mod api;
pub mod app;
mod config;
mod deferred;
mod direct;
mod downstream;
mod group_commit;
mod list_memory;
mod lists;
mod order;
mod store;

pub use config::{Address, Cancellation, Config, Direct, Downstream};
