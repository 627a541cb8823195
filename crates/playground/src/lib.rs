#![doc = include_str!("../README.md")]

mod admin;
mod cli;
mod compare;
mod demo;
mod deployment;
mod environment;
mod error;
mod failure;
mod http;
mod instance;
mod launcher;
mod load;
mod local;
mod ops;
mod ports;
mod records;
mod report;
mod system;
mod third_party;

pub use cli::main;
pub use deployment::EVENT_SENDERS;
pub use error::Error;
pub use instance::Instance;
pub use launcher::{Launch, Launcher, programs_folder};
pub use ops::OpsProcess;
pub use ports::Ports;
pub use system::{System, SystemOptions};
pub use third_party::{Behaviour, Received, ThirdParty};
