//! What an operator sees of jobs.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::filter::{Filter, State};

/// A part of the list of jobs.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// The jobs on it, newest first.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins. `None` if there is none.
    pub next_cursor: Option<Uuid>,
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
    /// The tenant that it is for.
    pub tenant: Option<String>,
    /// See [`Meta::lane`](crate::Meta::lane).
    pub lane: Option<String>,
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
    nullif(tenant, '') as tenant, nullif(lane, '') as lane,
    errors -> -1 ->> 'error' as last_error,
    case when failed_at is not null then 'failed' when worker is not null then 'running' else 'waiting' end as state";

/// Lists jobs that wait, run or have failed, newest first. Those that are done leave no record.
///
/// A page begins after `cursor`, the `next_cursor` of the page before.
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
    // One more than fit tells that there is another page.
    query.push(" order by id desc limit ").push_bind(i64::from(limit) + 1);
    let mut jobs: Vec<JobRecord> = query.build_query_as().fetch_all(pool).await?;
    let fit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = jobs.len() <= fit;
    jobs.truncate(fit);
    let next_cursor = if is_last { None } else { jobs.last().map(|job| job.id) };
    Ok(Page { jobs, next_cursor })
}

/// One job with its payload and all its errors.
pub async fn find(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<JobDetails>> {
    let mut query = QueryBuilder::<Postgres>::new("select payload, errors, ");
    query.push(RECORD).push(" from job where id = ").push_bind(id);
    query.build_query_as().fetch_optional(pool).await
}
