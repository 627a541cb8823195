#![doc = include_str!("../README.md")]

mod attempt;
mod consumer;
mod database;
mod dead_letters;
mod failure;
mod faults;
mod feed;
mod handler;
mod history;
mod inbox;
mod instruments;
mod intake;
mod lane;
mod memory;
mod message;
mod options;
mod outcome;
mod partitions;
mod pipeline;
mod reader;
mod replay;
mod retention;
mod run;
mod spans;
mod status;
mod subscription;
mod topics;
mod verdict;
mod versions;

pub use consumer::Consumer;
pub use failure::{Class, Failure};
pub use faults::{Fault, FaultKind, Faults};
pub use feed::Feed;
pub use handler::{Handler, Received};
pub use memory::MemoryBudget;
pub use options::{Options, OptionsError};
pub use outcome::Outcome;
pub use replay::{Replayed, recovered, replayed};
pub use status::{State, Status};
pub use subscription::Subscription;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the inbox in the service's own database.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_consumer_migrations").run(pool).await
}
