//! `/jobs` on the admin port: jobs that wait, run or have failed, to be retried or discarded. Everybody who can reach the
//! port may list them; a payload may hold customers' data, so to show one job takes the operator's token.

use ::jobs::{Filter, JobDetails, JobRecord};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use uuid::Uuid;

use super::Admin;
use super::acts::NewAct;
use super::operator::Operator;
use crate::http::{Path, Problem, Query};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{id}", get(find).delete(discard))
        .route("/jobs/{id}/retry", post(retry))
}

#[derive(Serialize)]
struct Jobs {
    jobs: Vec<JobRecord>,
}

async fn list(
    State(admin): State<Admin>,
    Query(filter): Query<Filter>,
) -> Result<Json<Jobs>, Problem> {
    Ok(Json(Jobs { jobs: ::jobs::list(&admin.pool, &filter).await? }))
}

async fn find(
    State(admin): State<Admin>,
    _: Operator,
    Path(id): Path<Uuid>,
) -> Result<Json<JobDetails>, Problem> {
    ::jobs::find(&admin.pool, id).await?.map(Json).ok_or_else(|| unknown(id))
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
            Some(job) if job.record.failed_at.is_none() => {
                Problem::conflict("this job has not failed: it waits or runs")
            }
            Some(_) => Problem::conflict("another job of its unique key waits or runs"),
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
            Some(_) => Problem::conflict("this job runs; try again when it has ended"),
        })
    };
    admin.acts.record(&operator, act, discarding).await
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("there is no job {id}; those that are done leave no record"))
}
