//! `/readyz`, `/metrics`, `/subscriptions`, `/jobs` and `/acts`.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Conditions, Known, Shared, change, is_operator, matching, page, problem};

pub(super) fn routes() -> Router<Arc<Mutex<Known>>> {
    Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/subscriptions", get(subscriptions))
        .route("/subscriptions/{group}/{act}", post(change))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job).post(change))
        .route("/acts", get(acts))
}

/// Never returns if the service does not answer requests for its lists.
async fn answers(known: &Mutex<Known>) {
    let hangs = known.lock().unwrap().lists_hang;
    if hangs {
        std::future::pending::<()>().await;
    }
}

async fn readyz(State(known): Shared) -> Response {
    let ready = json!({ "status": "ready", "database": "up", "kafka": "up", "subscriptions": {} });
    let (status, body) = known.lock().unwrap().readiness.clone().unwrap_or((200, ready));
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn metrics(State(known): Shared) -> String {
    let (hangs, metrics) = {
        let known = known.lock().unwrap();
        (known.hangs, known.metrics)
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    metrics.to_owned()
}

async fn subscriptions(State(known): Shared, uri: Uri) -> Response {
    answers(&known).await;
    // The API accepts no query here.
    if uri.query().is_some_and(|it| !it.is_empty()) {
        return problem(400, "unknown field");
    }
    let billing = json!({ "group": "billing", "state": "running", "instances": [] });
    let known = known.lock().unwrap();
    let subscriptions = known.subscriptions.clone().unwrap_or_else(|| vec![billing]);
    Json(json!({ "subscriptions": subscriptions, "next_cursor": null })).into_response()
}

async fn jobs(State(known): Shared, uri: Uri, Query(conditions): Conditions) -> Response {
    answers(&known).await;
    let mut known = known.lock().unwrap();
    known.job_lists.push(uri.to_string());
    let jobs = matching(&known.jobs, &conditions, &["kind", "state", "subject"]);
    page(&known, "jobs", &jobs, &conditions)
}

async fn job(State(known): Shared, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !is_operator(&headers) {
        return problem(401, "send an operator's token as Authorization: Bearer <token>");
    }
    let known = known.lock().unwrap();
    match known.jobs.iter().find(|job| job["id"] == *id) {
        Some(job) => {
            let mut job = job.clone();
            job["payload"] = json!({ "to": "ada\u{1b}@example.com" });
            job["errors"] = json!([{ "attempt": 1, "at": "2026-11-26T01:30:12Z", "error": "503\ncaused by: x" }]);
            Json(job).into_response()
        }
        None => problem(404, "there is no such job"),
    }
}

async fn acts(State(known): Shared, Query(conditions): Conditions) -> Response {
    answers(&known).await;
    let known = known.lock().unwrap();
    let acts = matching(&known.acts, &conditions, &["by"]);
    page(&known, "acts", &acts, &conditions)
}

/// Returns a job that was enqueued this number of minutes after ten o'clock.
pub(crate) fn job_of(minute: u32, kind: &str, state: &str) -> Value {
    json!({
        "id": super::id(minute), "kind": kind, "state": state, "attempts": 4, "subject": format!("s{minute}"),
        "correlation_id": null, "unique_key": null, "created_at": format!("2026-11-25T10:{minute:02}:00Z"),
        "run_at": "2026-11-25T11:00:00Z", "failed_at": (state == "failed").then_some("2026-11-25T11:00:00Z"),
        "last_error": (state == "failed").then_some("the target answered 503"), "new_member": minute,
    })
}

/// Returns an act that was done this number of minutes after ten o'clock.
pub(crate) fn act_of(minute: u32, by: &str, act: &str) -> Value {
    json!({
        "id": minute, "at": format!("2026-11-25T10:{minute:02}:00Z"), "by": by, "act": act,
        "target": format!("target {minute}"), "why": "w", "outcome": "done",
    })
}
