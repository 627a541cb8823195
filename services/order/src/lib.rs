#![doc = include_str!("../README.md")]

mod api;
pub mod app;
mod config;
mod etag;
mod order;
mod store;

pub use config::Config;
