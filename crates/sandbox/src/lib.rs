#![doc = include_str!("../README.md")]

mod broker;
mod database;
mod error;
mod folder;
mod foreground;
mod jars;
mod kafka;
mod maven;
mod options;
mod pgbouncer;
pub mod port;
mod postgres;
mod postgres_artifact;
mod process;
mod process_table;
mod progress;
mod record;
mod servers;
pub mod testing;
mod tools;

pub use broker::Broker;
pub use error::Error;
pub use foreground::run_in_foreground;
pub use jars::kafka_jars;
pub use kafka::Kafka;
pub use options::{Data, ServerOptions, ServersOptions};
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, Shutdown};
pub use process::{Life, Process};
pub use progress::{Console, Progress, Silent, step};
pub use record::{NoProcessRecord, ProcessRecord};
pub use servers::Servers;
pub use tools::{MissingTools, Tools};
