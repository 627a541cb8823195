//! Jobs as shown to operators.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::filter::{Filter, State};

/// A page of jobs.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// The jobs on it, newest first.
    pub jobs: Vec<JobRecord>,
    /// Cursor of the next page. `None` on the last page.
    pub next_cursor: Option<Uuid>,
}

/// A job without its payload, which may be confidential.
#[derive(Clone, PartialEq, Debug, Serialize, FromRow)]
pub struct JobRecord {
    /// Id of the job.
    pub id: Uuid,
    /// Kind of the job.
    pub kind: String,
    /// State of the job.
    pub state: State,
    /// Number of attempts, with the current one; an operator's retry resets it.
    pub attempts: i32,
    /// Subject of the job, such as an order's id.
    pub subject: Option<String>,
    /// The flow that it belongs to.
    pub correlation_id: Option<String>,
    /// The tenant that it is for.
    pub tenant: Option<String>,
    /// See [`Meta::lane`](crate::Meta::lane).
    pub lane: Option<String>,
    /// See [`Meta::unique`](crate::Meta::unique).
    pub unique_key: Option<String>,
    /// Time of the enqueueing.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Time at which the job is due. For a running job, the end of its lease; for a failed one, the
    /// time of the failure.
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    /// Time of the final failure.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failed_at: Option<OffsetDateTime>,
    /// Error of its last attempt, with all sources.
    pub last_error: Option<String>,
}

/// A job with payload and errors.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct JobDetails {
    /// The part that lists show.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Payload.
    pub payload: serde_json::Value,
    /// Failed attempts, oldest first; at least the last twenty, including those before an
    /// operator's retry.
    pub errors: Vec<PastFailure>,
}

/// A failed attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastFailure {
    /// Number of the attempt.
    pub attempt: u32,
    /// End of the attempt.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Error, with all sources.
    pub error: String,
}

impl FromRow<'_, PgRow> for JobDetails {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(payload) = row.try_get("payload")?;
        let Json(errors) = row.try_get("errors")?;
        Ok(Self { record: JobRecord::from_row(row)?, payload, errors })
    }
}

const RECORD: &str = "id, kind, attempts, subject, correlation_id, unique_key, created_at, run_at, failed_at,
    nullif(tenant, '') as tenant, nullif(lane, '') as lane,
    errors -> -1 ->> 'error' as last_error,
    case when failed_at is not null then 'failed' when worker is not null then 'running' else 'waiting' end as state";

/// Lists waiting, running and failed jobs, newest first. Completed jobs are not kept.
///
/// A page begins after `cursor`, the `next_cursor` of the previous page.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    limit: u32,
    cursor: Option<Uuid>,
) -> sqlx::Result<Page> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(RECORD).push(" from job where true");
    filter.constrain(&mut query);
    if let Some(cursor) = cursor {
        query.push(" and id < ").push_bind(cursor);
    }
    // A surplus row shows that there is another page.
    query.push(" order by id desc limit ").push_bind(i64::from(limit) + 1);
    let mut jobs: Vec<JobRecord> = query.build_query_as().fetch_all(pool).await?;
    let fit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = jobs.len() <= fit;
    jobs.truncate(fit);
    let next_cursor = if is_last { None } else { jobs.last().map(|job| job.id) };
    Ok(Page { jobs, next_cursor })
}

/// Returns a job with its payload and errors, or `None` if the id is unknown.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn find(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<JobDetails>> {
    let mut query = QueryBuilder::<Postgres>::new("select payload, errors, ");
    query.push(RECORD).push(" from job where id = ").push_bind(id);
    query.build_query_as().fetch_optional(pool).await
}
