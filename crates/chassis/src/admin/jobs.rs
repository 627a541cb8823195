//! `/jobs` on the admin port: waiting, running and failed jobs, to retry or discard. Listing
//! requires no token. Payloads and errors may contain customers' data, so they require an
//! operator's token.

use ::jobs::{Changed, Filter, JobDetails, JobRecord, JobsError, Page, Selection};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Admin;
use super::acts::NewAct;
use super::concealed::conceal;
use super::operator::Operator;
use super::request::{
    Choice, MAX_LETTERS_BODY, check_limit, checked_why, choice, default_limit, describe_filter,
    describe_ids,
};
use crate::http::{Json, JsonObject, Path, Problem, Query};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/retry", post(retry_all))
        .route("/jobs/discard", post(discard_all))
        .route("/jobs/{id}", get(find).delete(discard))
        .route("/jobs/{id}/retry", post(retry))
}

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Database(error) => error.into(),
            JobsError::Interrupted { changed, source } => interrupted(changed, source),
            JobsError::NotFound(detail) => Self::not_found(detail),
            JobsError::Conflict(detail) => Self::conflict(detail),
            other => Self::internal(other),
        }
    }
}

/// Returns the problem of a change that was interrupted by a failure of the database, with the
/// number of changed jobs.
fn interrupted(changed: u64, source: sqlx::Error) -> Problem {
    let cause = Problem::from(source);
    if cause.status() == StatusCode::INTERNAL_SERVER_ERROR {
        return cause;
    }
    let detail = format!(
        "the database failed after {} were changed; repeat the request to change the others",
        in_words(changed)
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
        .with_header(header::RETRY_AFTER, "1")
}

/// Fields of [`Filter`] and of a page, repeated here because serde can't refuse unknown fields of a
/// flattened struct.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsQuery {
    kind: Option<String>,
    state: Option<::jobs::State>,
    subject: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<Uuid>,
}

#[derive(Serialize)]
struct JobsPage {
    jobs: Vec<JobRecord>,
    next_cursor: Option<Uuid>,
}

async fn list(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Query(query): Query<JobsQuery>,
) -> Result<Body<JobsPage>, Problem> {
    let JobsQuery { kind, state, subject, until, limit, cursor } = query;
    check_limit(limit)?;
    let filter = Filter { state, kind, subject, until };
    let Page { mut jobs, next_cursor } = ::jobs::list(&admin.pool, &filter, limit, cursor).await?;
    if operator.is_none() {
        // A unique key may name a target.
        for job in &mut jobs {
            conceal([&mut job.last_error, &mut job.unique_key].into_iter().flatten());
        }
    }
    Ok(Body(JobsPage { jobs, next_cursor }))
}

async fn find(
    State(admin): State<Admin>,
    _: Operator,
    Path(id): Path<Uuid>,
) -> Result<Body<JobDetails>, Problem> {
    ::jobs::find(&admin.pool, id).await?.map(Body).ok_or_else(|| unknown(id))
}

async fn retry(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    let act = NewAct { act: "job.retry", target: id.to_string(), why: None };
    let retrying = async {
        if ::jobs::retry(&admin.pool, id).await? {
            admin.jobs.wake();
            return Ok((StatusCode::ACCEPTED, "retried".to_owned()));
        }
        Err(match ::jobs::find(&admin.pool, id).await? {
            None => unknown(id),
            Some(job) if job.record.failed_at.is_none() => Problem::conflict(
                "the job has not failed: it is waiting or running; only failed jobs can be retried",
            ),
            Some(_) => Problem::conflict(
                "another job with the same unique key is waiting or running; retry this one when that has ended",
            ),
        })
    };
    admin.acts.record(&operator, act, retrying).await
}

async fn discard(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    let act = NewAct { act: "job.discard", target: id.to_string(), why: None };
    let discarding = async {
        if ::jobs::discard(&admin.pool, id).await? {
            return Ok((StatusCode::NO_CONTENT, "discarded".to_owned()));
        }
        Err(match ::jobs::find(&admin.pool, id).await? {
            None => unknown(id),
            Some(_) => {
                Problem::conflict("the job is running; discard it when its attempt has ended")
            }
        })
    };
    admin.acts.record(&operator, act, discarding).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    ids: Option<Vec<Uuid>>,
    filter: Option<JsonObject<Filter>>,
    why: String,
}

/// Jobs to retry or discard, and the reason.
struct JobsRequest {
    selection: Selection,
    why: String,
}

impl JobsRequest {
    fn checked(chosen: Chosen) -> Result<Self, Problem> {
        let why = checked_why("why", &chosen.why)?.to_owned();
        let selection = match choice(chosen.ids, chosen.filter, "job")? {
            Choice::Ids(ids) => Selection::Ids(ids),
            Choice::Filter(filter) => Selection::Filter(filter),
        };
        Ok(Self { selection, why })
    }

    fn act(&self, act: &'static str) -> NewAct<'_> {
        let target = match &self.selection {
            Selection::Ids(ids) => describe_ids(ids),
            Selection::Filter(filter) => describe_filter(filter),
        };
        NewAct { act, target, why: Some(&self.why) }
    }
}

/// Numbers of changed and of skipped jobs.
#[derive(Serialize)]
struct ChangedJobs {
    jobs: u64,
    skipped: u64,
}

impl ChangedJobs {
    fn of(Changed { jobs, skipped }: Changed) -> (Body<Self>, String) {
        let words = match skipped {
            0 => in_words(jobs),
            _ => format!("{}, {skipped} skipped", in_words(jobs)),
        };
        (Body(Self { jobs, skipped }), words)
    }
}

async fn retry_all(
    State(admin): State<Admin>,
    operator: Operator,
    Json(chosen): Json<Chosen, MAX_LETTERS_BODY>,
) -> Result<Body<ChangedJobs>, Problem> {
    let change = JobsRequest::checked(chosen)?;
    let retrying = async {
        let retried = ::jobs::retry_all(&admin.pool, &change.selection).await;
        admin.jobs.wake();
        Ok(ChangedJobs::of(retried?))
    };
    admin.acts.record(&operator, change.act("jobs.retry"), retrying).await
}

async fn discard_all(
    State(admin): State<Admin>,
    operator: Operator,
    Json(chosen): Json<Chosen, MAX_LETTERS_BODY>,
) -> Result<Body<ChangedJobs>, Problem> {
    let change = JobsRequest::checked(chosen)?;
    let discarding =
        async { Ok(ChangedJobs::of(::jobs::discard_all(&admin.pool, &change.selection).await?)) };
    admin.acts.record(&operator, change.act("jobs.discard"), discarding).await
}

fn in_words(jobs: u64) -> String {
    if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") }
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("there is no job {id}; completed jobs are not kept"))
}
