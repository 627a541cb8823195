//! What an operator sees of jobs, and does about them.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row};
use time::OffsetDateTime;
use uuid::Uuid;

const LONGEST_LIST: u32 = 500;

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    /// For its time, its retry or a free place.
    Waiting,
    /// A worker has it, or had it and died less than a lease ago.
    Running,
    /// For good: it waits for an operator.
    Failed,
}

/// Which jobs to list, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Only those that stand there.
    pub state: Option<State>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only about this subject.
    pub subject: Option<String>,
    /// At most so many; 500 is the limit.
    pub limit: u32,
    /// Only older ones: the last id of the page before.
    pub before: Option<Uuid>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { state: None, kind: None, subject: None, limit: 100, before: None }
    }
}

/// A job, but for its payload, which may hold what not everybody should see in a list.
#[derive(Clone, PartialEq, Debug, Serialize, FromRow)]
pub struct JobRecord {
    /// Its id.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Where it stands.
    pub state: State,
    /// How many it had, with the one that runs; an operator's retry begins anew.
    pub attempts: i32,
    /// What it is about.
    pub subject: Option<String>,
    /// The flow that it belongs to.
    pub correlation_id: Option<String>,
    /// See [`Meta::unique`](crate::Meta::unique).
    pub unique_key: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it is due. If it runs, when its lease is over; if it has failed, when it did.
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    /// When it failed for good.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failed_at: Option<OffsetDateTime>,
    /// Why its last attempt failed, with all causes.
    pub last_error: Option<String>,
}

/// A job with everything that is stored of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct JobDetails {
    /// What a list shows of it.
    #[serde(flatten)]
    pub record: JobRecord,
    /// What is to be done.
    pub payload: serde_json::Value,
    /// The attempts that failed, the oldest first; at least the last twenty, those before an operator's retry included.
    pub errors: Vec<PastFailure>,
}

/// An attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastFailure {
    /// Which one.
    pub attempt: u32,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why, with all causes.
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
    errors -> -1 ->> 'error' as last_error,
    case when failed_at is not null then 'failed' when worker is not null then 'running' else 'waiting' end as state";

/// Jobs that wait, run or have failed; those that are done leave no record here.
pub async fn list(pool: &PgPool, filter: &Filter) -> sqlx::Result<Vec<JobRecord>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(RECORD).push(" from job where ").push(match filter.state {
        None => "true",
        // As the indexes have it.
        Some(State::Waiting) => "failed_at is null and worker is null",
        Some(State::Running) => "worker is not null",
        Some(State::Failed) => "failed_at is not null",
    });
    if let Some(kind) = &filter.kind {
        query.push(" and kind = ").push_bind(kind);
    }
    if let Some(subject) = &filter.subject {
        query.push(" and subject = ").push_bind(subject);
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    let limit = filter.limit.clamp(1, LONGEST_LIST);
    query.push(" order by id desc limit ").push_bind(i64::from(limit));
    query.build_query_as().fetch_all(pool).await
}

/// One job with its payload and all its errors.
pub async fn find(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<JobDetails>> {
    let mut query = QueryBuilder::<Postgres>::new("select payload, errors, ");
    query.push(RECORD).push(" from job where id = ").push_bind(id);
    query.build_query_as().fetch_optional(pool).await
}

/// Gives a job that has failed all its attempts anew, and keeps what is known of those before. False: it is not there, has
/// not failed, or another one of its unique key waits or runs.
pub async fn retry(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let retried = sqlx::query(
        "update job set failed_at = null, attempts = 0, run_at = now()
         where id = $1 and failed_at is not null",
    )
    .bind(id)
    .execute(pool)
    .await;
    match retried {
        Ok(retried) => Ok(retried.rows_affected() == 1),
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("job_unique") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a job that has failed, or waits. False: it is not there, or runs.
pub async fn discard(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let discarded = sqlx::query("delete from job where id = $1 and worker is null");
    Ok(discarded.bind(id).execute(pool).await?.rows_affected() == 1)
}
