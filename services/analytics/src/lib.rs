#![doc = include_str!("../README.md")]

pub mod app;

mod api;
mod basket;
mod config;
mod consumers;
mod history;
mod store;

pub use config::Config;
