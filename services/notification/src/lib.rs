#![doc = include_str!("../README.md")]

pub mod app;

mod api;
mod config;
mod consumers;
mod email;
mod webhook;

pub use config::{Config, Mail};
pub use webhook::Exceptions;
