#![doc = include_str!("../README.md")]

pub mod app;

mod api;
mod config;
mod consumers;
mod letter;
mod mailer;
mod sender;
mod store;

pub use config::{Config, Mail};
