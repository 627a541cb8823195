#![doc = include_str!("../README.md")]

pub mod app;

mod addresses;
mod api;
mod config;
mod consumers;
mod deliver_webhook;
mod deliveries;
mod letter;
mod mailer;
mod send_email;
mod signature;
mod store;
mod target;
mod webhooks;

pub use addresses::Exceptions;
pub use config::{Config, Mail};
