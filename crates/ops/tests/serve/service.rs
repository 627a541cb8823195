//! A fake admin port of a service, with the routes that `serve` polls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    state: Arc<ServiceState>,
}

struct ServiceState {
    is_ready: AtomicBool,
    /// `true` if so many webhooks have failed that a page of jobs has nothing else.
    is_crowded: AtomicBool,
}

const METRICS: &str = "\
# TYPE outbox_age_seconds gauge
outbox_age_seconds{otel_scope_name=\"outbox\"} 2.5
outbox_depth 7
consumer_dead_lettered_total{messaging_consumer_group_name=\"billing\"} 3
jobs_dead_total{job_kind=\"send-email\"} 0
jobs_dead_total{job_kind=\"deliver-webhook\"} 1
";

impl Service {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = ServiceState { is_ready: true.into(), is_crowded: false.into() };
        let state = Arc::new(state);
        let router = Router::new()
            .route("/readyz", get(readyz))
            .route("/metrics", get(async || METRICS))
            .route("/subscriptions", get(async || Json(subscriptions())))
            .route("/dead-letters/groups", get(async || Json(letter_groups())))
            .route("/jobs", get(jobs))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.state.is_ready.store(is_ready, Ordering::SeqCst);
    }

    pub(crate) fn crowd_jobs(&self) {
        self.state.is_crowded.store(true, Ordering::SeqCst);
    }
}

async fn readyz(State(state): State<Arc<ServiceState>>) -> Response {
    if state.is_ready.load(Ordering::SeqCst) {
        Json(json!({ "status": "ready", "database": "up", "kafka": "up" })).into_response()
    } else {
        let why = json!({ "status": "unready", "database": "unavailable: refused", "kafka": "up" });
        (StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response()
    }
}

fn subscriptions() -> Value {
    let billing =
        json!({ "group": "billing", "state": "running", "topics": ["parcels"], "instances": [] });
    json!({ "subscriptions": [billing] })
}

fn letter_groups() -> Value {
    let group = json!({
        "fingerprint": "f", "group": "billing", "event_type": null, "exception": "x", "reason": "r",
        "status": "acknowledged", "note": null, "by": null, "open": 3, "parked": 1, "replaying": 0,
        "resolved": 5, "discarded": 0, "first_at": "2026-11-25T10:00:00Z", "last_at": "2026-11-25T10:00:00Z",
    });
    json!({ "groups": [group], "next_cursor": null })
}

async fn jobs(
    State(state): State<Arc<ServiceState>>,
    Query(conditions): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let webhooks = if state.is_crowded.load(Ordering::SeqCst) { 1_000 } else { 1 };
    let jobs = match conditions.get("kind").map(String::as_str) {
        Some("send-email") => vec![failed_job("send-email")],
        _ => vec![failed_job("deliver-webhook"); webhooks],
    };
    Json(json!({ "jobs": jobs }))
}

fn failed_job(kind: &str) -> Value {
    json!({
        "service": "billing", "id": "01a2158a-b57e-72f0-978f-c52b94fc4e3f", "kind": kind,
        "state": "failed", "attempts": 4, "subject": null, "correlation_id": null, "unique_key": null,
        "created_at": "2026-11-25T10:00:00Z", "run_at": "2026-11-25T10:07:00Z",
        "failed_at": "2026-11-25T10:07:00Z", "last_error": "refused",
    })
}
