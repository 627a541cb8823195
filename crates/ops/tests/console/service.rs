//! A fake admin API of a service that applies changes, so that pages change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// State of the service.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) jobs: Vec<Value>,
    pub(crate) acts: Vec<Value>,
    pub(crate) groups: Vec<Value>,
    pub(crate) paused: Option<Value>,
    pub(crate) readiness: Option<Value>,
    /// Status of the response to every token, other than 200.
    pub(crate) refusal: Option<u16>,
    /// Number of requests of pages for lists of jobs. The poller's requests have no subject.
    pub(crate) job_lists: usize,
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

type Shared = State<Arc<Mutex<Known>>>;

impl Service {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = Arc::<Mutex<Known>>::default();
        let router = Router::new()
            .route("/operator", get(operator))
            .route("/readyz", get(readyz))
            .route("/metrics", get(async || METRICS))
            .route("/subscriptions", get(subscriptions))
            .route("/subscriptions/billing/{act}", post(change_subscription))
            .route("/dead-letters/groups", get(groups))
            .route("/jobs", get(jobs))
            .route("/jobs/{id}", get(job).post(change_jobs))
            .route("/acts", get(acts))
            .route("/evil", get(evil))
            .with_state(known.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, known }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }
}

const METRICS: &str = "outbox_age_seconds 2\noutbox_depth 7\n";

fn problem(status: u16, detail: &str) -> Response {
    let problem =
        json!({ "type": "about:blank", "title": "t", "status": status, "detail": detail });
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
}

/// Returns the operator's name.
#[allow(clippy::result_large_err)] // The error is a response.
fn operator_of(headers: &HeaderMap) -> Result<&'static str, Response> {
    match headers.get("authorization").and_then(|it| it.to_str().ok()) {
        Some("Bearer ada-token") => Ok("ada"),
        Some("Bearer grace-token") => Ok("grace"),
        _ => Err(problem(401, "send an operator's token as Authorization: Bearer <token>")),
    }
}

async fn operator(State(known): Shared, headers: HeaderMap) -> Result<Json<Value>, Response> {
    if let Some(status) = known.lock().unwrap().refusal {
        return Err(problem(status, "no operator is known"));
    }
    Ok(Json(json!({ "name": operator_of(&headers)? })))
}

async fn readyz(State(known): Shared) -> Json<Value> {
    let ready = json!({ "status": "ready", "database": "up", "kafka": "up" });
    Json(known.lock().unwrap().readiness.clone().unwrap_or(ready))
}

async fn subscriptions(State(known): Shared) -> Json<Value> {
    let paused = known.lock().unwrap().paused.clone();
    let state = paused.as_ref().map_or_else(
        || "running".to_owned(),
        |it| format!("paused by {}: {}", it["by"].as_str().unwrap(), it["why"].as_str().unwrap()),
    );
    let instance =
        json!({ "id": "01a2158a-b57e", "state": state, "seen_at": "2026-11-25T10:00:00Z" });
    let billing = json!({
        "group": "billing", "state": state, "topics": ["order.completed"], "event_types": ["order.completed"],
        "paused": paused, "breakers": [], "instances": [instance],
    });
    Json(json!({ "subscriptions": [billing], "next_cursor": null }))
}

async fn change_subscription(
    State(known): Shared,
    headers: HeaderMap,
    Path(act): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Response> {
    let by = operator_of(&headers)?;
    let mut known = known.lock().unwrap();
    let since = "2026-11-25T10:00:00Z";
    known.paused =
        (act == "pause").then(|| json!({ "by": by, "why": body["why"], "since": since }));
    let kind = format!("subscriptions.{act}");
    known.acts.insert(0, act_of(by, &kind, "billing", &body["why"]));
    Ok(Json(json!({ "group": "billing" })))
}

async fn groups(State(known): Shared) -> Json<Value> {
    Json(json!({ "groups": known.lock().unwrap().groups, "next_cursor": null }))
}

/// Returns whether a job was enqueued, and if it has failed, had failed, by a time.
fn was_there(job: &Value, until: &str) -> bool {
    let by_then = |name: &str| job[name].as_str().is_none_or(|at| at <= until);
    by_then("created_at") && by_then("failed_at")
}

async fn jobs(State(known): Shared, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let mut known = known.lock().unwrap();
    known.job_lists += usize::from(query.contains_key("subject"));
    let matches = |job: &&Value| {
        ["kind", "state", "subject"]
            .iter()
            .all(|it| query.get(*it).is_none_or(|is| job[*it] == **is))
            && query.get("until").is_none_or(|until| was_there(job, until))
    };
    let jobs: Vec<_> = known.jobs.iter().filter(matches).cloned().collect();
    let limit = query.get("limit").map_or(100, |it| it.parse().unwrap());
    let from: usize = query.get("cursor").map_or(0, |it| it.parse().unwrap());
    let to = jobs.len().min(from + limit);
    let next = (to < jobs.len()).then(|| to.to_string());
    Json(json!({ "jobs": jobs[from..to], "next_cursor": next }))
}

async fn job(State(known): Shared, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Err(refused) = operator_of(&headers) {
        return refused;
    }
    let known = known.lock().unwrap();
    let Some(mut job) = known.jobs.iter().find(|it| it["id"] == *id).cloned() else {
        return problem(404, "there is no such job");
    };
    job["errors"] = json!([{ "attempt": 1, "at": "2026-11-25T10:00:00Z", "error": "503\ncaused by: <b>x</b>" }]);
    // Inserted as text, so that the number is not parsed.
    let text = job.to_string();
    let payload =
        r#""payload":{"amount":12345678901234567890.10,"to":"<img src=x onerror=alert(1)>"}}"#;
    let text = format!("{},{payload}", text.trim_end_matches('}'));
    ([("content-type", "application/json")], text).into_response()
}

async fn change_jobs(
    State(known): Shared,
    headers: HeaderMap,
    Path(act): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Response> {
    let by = operator_of(&headers)?;
    let mut known = known.lock().unwrap();
    let is_chosen = |job: &Value| match body["ids"].as_array() {
        Some(ids) => ids.contains(&job["id"]),
        None => body["filter"].as_object().unwrap().iter().all(|(name, is)| match &**name {
            "until" => was_there(job, is.as_str().unwrap()),
            _ => job[name] == *is,
        }),
    };
    let mut changed = 0;
    for job in known.jobs.iter_mut().filter(|it| is_chosen(it)) {
        job["state"] = "waiting".into();
        job["failed_at"] = Value::Null;
        changed += 1;
    }
    if act == "discard" {
        known.jobs.retain(|it| !is_chosen(it));
    }
    let kind = format!("jobs.{act}");
    known.acts.insert(0, act_of(by, &kind, &format!("{changed} jobs"), &body["why"]));
    Ok(Json(json!({ "jobs": changed, "skipped": 0 })))
}

async fn acts(State(known): Shared, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let known = known.lock().unwrap();
    let is_by = |it: &&Value| query.get("by").is_none_or(|by| it["by"] == **by);
    let acts: Vec<_> = known.acts.iter().filter(is_by).collect();
    Json(json!({ "acts": acts, "next_cursor": null }))
}

/// Returns a page of another site, which posts a form to the console.
async fn evil(Query(query): Query<BTreeMap<String, String>>) -> Html<String> {
    Html(format!(
        "<form method=post action='{}'><input name=why value=evil><button>Win a prize</button></form>",
        query["to"]
    ))
}

/// Returns a job.
pub(crate) fn job_of(number: u32, kind: &str, state: &str) -> Value {
    let failed = (state == "failed").then_some("2026-11-25T11:00:00Z");
    json!({
        "id": format!("01a20a9a-7779-774a-8232-{number:012}"), "kind": kind, "state": state, "attempts": 4,
        "subject": format!("order-{number}"), "correlation_id": null, "unique_key": null,
        "created_at": "2026-11-25T10:00:00Z", "run_at": "2026-11-25T11:00:00Z", "failed_at": failed,
        "last_error": failed.map(|_| "the target answered 503"),
    })
}

fn act_of(by: &str, kind: &str, target: &str, why: &Value) -> Value {
    let at = time::OffsetDateTime::now_utc();
    let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    json!({ "id": 1, "at": at, "by": by, "act": kind, "target": target, "why": why, "outcome": "done" })
}

/// Returns dead letters of one reason.
pub(crate) fn group_of(reason: &str, open: u32) -> Value {
    json!({
        "fingerprint": "3f2a9c1d", "group": "billing", "event_type": "order.completed", "exception": "consumer::Permanent",
        "reason": reason, "status": "open", "note": null, "by": null, "open": open, "parked": 0, "replaying": 0,
        "resolved": 0, "discarded": 0, "first_at": "2026-11-25T10:00:00Z", "last_at": "2026-11-25T10:30:00Z",
    })
}
