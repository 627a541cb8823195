//! Jobs of a flow.

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::filter::State;

/// Maximum number of jobs.
const MAX_JOBS: i64 = 100;
/// Maximum number of jobs searched for a correlation id. It has no index, which would cost time for
/// every job.
const SEARCHED: i64 = 20_000;

/// A job of a flow that waits, runs or has failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct FlowJob {
    /// Correlation id.
    #[serde(skip)]
    pub correlation_id: Option<String>,
    /// Id.
    pub job_id: Uuid,
    /// Kind.
    pub job_kind: String,
    /// Subject of the job, such as an order's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// State of the job.
    pub state: State,
    /// Number of attempts, with the current one.
    pub attempts: i32,
    /// Time at which the job is due, UTC. For a running job, the end of its lease; for a failed
    /// one, the time of the failure.
    #[serde(with = "time::serde::rfc3339")]
    pub due_at: OffsetDateTime,
    /// Time of the enqueueing, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Error of its last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Returns the jobs of flows and those about the id, oldest first, at most 100. Jobs about
/// `subjects` are found by index, others only among the newest 20,000.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn of_flow(
    pool: &PgPool,
    id: &str,
    correlation_ids: &[String],
    subjects: &[String],
) -> sqlx::Result<Vec<FlowJob>> {
    sqlx::query_as(
        "with found as materialized (
             select id from job where subject = $1
             union
             select id from job where subject = any($3) and correlation_id = any($2)
             union
             select id from (select id, correlation_id from job order by id desc limit $4) newest
             where correlation_id = any($2)
         )
         select correlation_id, id as job_id, kind as job_kind, subject, attempts, run_at as due_at, created_at as since,
             errors -> -1 ->> 'error' as error,
             case when failed_at is not null then 'failed' when worker is not null then 'running' else 'waiting' end
                 as state
         from found join job using (id) order by id limit $5",
    )
    .bind(id)
    .bind(correlation_ids)
    .bind(subjects)
    .bind(SEARCHED)
    .bind(MAX_JOBS)
    .fetch_all(pool)
    .await
}
