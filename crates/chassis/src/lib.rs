#![doc = include_str!("../README.md")]

mod admin;
mod cloud_event;
mod config;
mod consuming;
mod direct;
mod extract;
mod flow;
mod health;
mod idempotency;
mod jobs_admin;
mod keys;
mod peer;
mod problem;
mod run;
mod server;
mod service;

pub use cloud_event::binary_headers;
pub use config::{Config, ConfigError, Secret};
pub use extract::{Json, Path, Query, Submission};
pub use flow::{Caller, Served};
pub use idempotency::{Answer, IdempotencyKey, Row as IdempotencyRow};
pub use peer::Peer;
pub use problem::Problem;
pub use run::main;
pub use service::{Parts, Running, Service, StartError};
