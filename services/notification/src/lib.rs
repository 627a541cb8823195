#![doc = include_str!("../README.md")]

pub mod app;

mod api;
mod change;
mod config;
mod consumers;
mod discarded;
mod email;
mod erasure;
mod retention;
mod webhook;

pub use config::{Config, Mail, Retention, Webhooks};
pub use webhook::Exceptions;
