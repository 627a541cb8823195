#![doc = include_str!("../README.md")]

mod attempt;
mod enqueue;
mod failure;
mod flow;
mod handler;
mod instruments;
mod job;
mod leases;
mod options;
mod queue;
mod records;
mod wake;
mod worker;

pub use enqueue::{EnqueueError, Enqueued, MAX_PAYLOAD_BYTES, Meta, enqueue, enqueue_all};
pub use failure::Failure;
pub use flow::{FlowJob, of_flow};
pub use handler::{Context, Handler};
pub use job::Job;
pub use options::Options;
pub use records::{Filter, JobDetails, JobRecord, PastFailure, State, discard, find, list, retry};
pub use wake::WorkerWaker;
pub use worker::Worker;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the table `job` in the service's own database.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_jobs_migrations").run(pool).await
}
