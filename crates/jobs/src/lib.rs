#![doc = include_str!("../README.md")]

mod attempt;
mod bulk;
mod claim;
mod enqueue;
mod error;
mod failure;
mod filter;
mod flow;
mod handler;
mod instruments;
mod job;
mod leases;
mod options;
mod pace;
mod queue;
mod records;
mod removals;
mod repair;
mod slots;
mod suspects;
mod wake;
mod worker;

pub use bulk::{Changed, discard_all, retry_all};
pub use enqueue::{EnqueueError, Enqueued, MAX_PAYLOAD_BYTES, Meta, enqueue, enqueue_all};
pub use error::JobsError;
pub use failure::Failure;
pub use filter::{Filter, Selection, State};
pub use flow::{FlowJob, of_flow};
pub use handler::{Context, Handler};
pub use job::Job;
pub use options::Options;
pub use records::{JobDetails, JobRecord, Page, PastFailure, find, list};
pub use repair::{discard, erase, forget_failed, lock, restart, retry};
pub use wake::WorkerWaker;
pub use worker::Worker;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the table `job` in the service's own database.
///
/// # Errors
/// Fails with [`MigrateError`] if the database is unavailable or an applied migration was edited.
/// If the future is dropped, complete migrations stay applied, and it may be called again.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_jobs_migrations").run(pool).await
}
