//! The admin port, for operators and their tools. Its routes create no spans.

mod acts;
mod concealed;
mod erasures;
mod faults;
mod flows;
mod health;
mod jobs;
mod letters;
mod operator;
mod replays;
mod request;
mod subscriptions;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json as Body, Router};
use consumer::{Faults, Letters};
use envelope::CorrelationId;
use sqlx::PgPool;
use telemetry::Metrics;

pub(crate) use acts::{Acts, prune as prune_acts};
pub(crate) use operator::Operators;
pub(crate) use subscriptions::Subscribed;

pub(crate) use health::{
    ACQUIRE_TIMEOUT, Health, OutboxReasons, Startup, TopicProblems, kafka_state, probe_kafka,
};

use crate::flow::FlowStore;
use crate::http::{Problem, render};
use crate::service::Erase;

/// State of the admin routes.
#[derive(Clone)]
pub(crate) struct Admin {
    /// Name of the service.
    pub(crate) service: &'static str,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    /// A separate pool, so that requests and handlers can't block operators.
    pub(crate) pool: PgPool,
    /// Wakes the job workers when the operator retries a job.
    pub(crate) jobs: ::jobs::WorkerWaker,
    pub(crate) operators: Operators,
    /// Subscriptions that the service is built with.
    pub(crate) subscriptions: Arc<Vec<Subscribed>>,
    /// Dead letters of the running subscriptions; empty with `SUBSCRIBE=off`.
    pub(crate) letters: Arc<Vec<Letters>>,
    pub(crate) acts: Acts,
    pub(crate) flows: FlowStore,
    /// Functions that erase a customer from the service's own tables.
    pub(crate) erases: Arc<Vec<Erase>>,
    /// Faults by subscription. `None` if `FAULTS=off`.
    pub(crate) faults: Option<Arc<BTreeMap<String, Faults>>>,
}

/// Builds the routes of the admin port.
pub(crate) fn routes(admin: Admin) -> Router {
    let mut routes = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(acts::routes())
        .merge(erasures::routes())
        .merge(flows::routes())
        .merge(letters::routes())
        .merge(operator::routes())
        .merge(replays::routes())
        .merge(subscriptions::routes())
        .merge(jobs::routes());
    if admin.faults.is_some() {
        routes = routes.merge(faults::routes());
    }
    routes
        .fallback(async || Problem::not_found("there is no resource at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn(serve))
        .with_state(admin)
}

/// Serves a request in a separate task, so that a disconnect does not leave an act half executed,
/// and renders problems. A request to the admin port belongs to no flow, so it gets a new
/// correlation id.
async fn serve(request: Request, next: Next) -> Response {
    let response = match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(panic) => Problem::internal(panic).into_response(),
    };
    render(response, &CorrelationId::generate())
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let (code, report) = admin.health.report().await;
    (code, Body(report))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}
