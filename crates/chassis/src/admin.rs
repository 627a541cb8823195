//! The admin port: what operators and their tools ask and change. Its routes make no spans.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json as Body, Router};
use consumer::{Fault, Faults, Replayed};
use events::CorrelationId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use telemetry::Metrics;

use crate::config::Secret;
use crate::extract::{Json, Path, Query};
use crate::health::Health;
use crate::jobs_admin;
use crate::problem::Problem;

/// What the routes are about.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) pool: PgPool,
    /// To be called when the operator gives a job anew.
    pub(crate) jobs: jobs::Wake,
    pub(crate) operator_token: Option<Secret>,
    /// By subscription; none where faults are not allowed.
    pub(crate) faults: Option<Arc<BTreeMap<String, Faults>>>,
}

pub(crate) fn routes(admin: Admin) -> Router {
    let mut routes = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .route("/replays", get(recovered))
        .route("/replays/{id}", get(replayed))
        .merge(jobs_admin::routes());
    if admin.faults.is_some() {
        routes = routes.route("/faults", get(faults).put(set_fault));
    }
    routes
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .layer(middleware::from_fn(render_problems))
        .with_state(admin)
}

/// Problems are rendered by the outermost layer; here there is no flow to name.
async fn render_problems(request: axum::extract::Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem) => problem.render(CorrelationId::generate().as_str()),
        None => response,
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let (code, report) = admin.health.report().await;
    (code, Body(report))
}

async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}

async fn replayed(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Body<Replayed>, Problem> {
    let replayed = consumer::replayed(&admin.pool, &id).await?;
    replayed.map(Body).ok_or_else(|| {
        Problem::not_found("no such replay is settled; if it was just sent, ask again")
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSubscription {
    subscription: String,
}

#[derive(Serialize)]
struct Recovered {
    replays: Vec<Replayed>,
}

/// What was replayed well, so that it is not offered again.
async fn recovered(
    State(admin): State<Admin>,
    Query(of): Query<OfSubscription>,
) -> Result<Body<Recovered>, Problem> {
    Ok(Body(Recovered { replays: consumer::recovered(&admin.pool, &of.subscription).await? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFault {
    subscription: String,
    /// `null` heals.
    fault: Option<Fault>,
}

async fn faults(State(admin): State<Admin>) -> impl IntoResponse {
    let all = admin.faults.as_deref().into_iter().flatten();
    let current: BTreeMap<_, _> =
        all.map(|(subscription, faults)| (subscription.clone(), faults.current())).collect();
    Body(current)
}

async fn set_fault(
    State(admin): State<Admin>,
    _: Operator,
    Json(set): Json<SetFault>,
) -> Result<StatusCode, Problem> {
    let all = admin.faults.as_deref();
    let faults = all.and_then(|all| all.get(&set.subscription)).ok_or_else(|| {
        let known: Vec<_> = all.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let known = if known.is_empty() { "none here".into() } else { known.join(", ") };
        Problem::not_found(format!(
            "there is no subscription {}; there are: {known}",
            set.subscription
        ))
    })?;
    if let Some(fault) = &set.fault
        && !(0.0..=1.0).contains(&fault.rate)
    {
        return Err(Problem::unprocessable("fault.rate must be 0 to 1"));
    }
    tracing::warn!(subscription = set.subscription, fault = ?set.fault, "a fault was set by the operator");
    faults.set(set.fault);
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody who has the operator's token. An extractor: 401 for everybody else.
pub(crate) struct Operator;

impl FromRequestParts<Admin> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let refuse = || {
            Problem::unauthorized("send the operator's token as Authorization: Bearer <token>")
                .with_header(header::WWW_AUTHENTICATE, "Bearer")
        };
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refuse)?;
        let token = admin.operator_token.as_ref().ok_or_else(|| {
            Problem::unauthorized("OPERATOR_TOKEN is not set, so nobody can change anything here")
        })?;
        // Digests, so that the time of the comparison says nothing about the token.
        let same = Sha256::digest(given) == Sha256::digest(token.expose());
        if same { Ok(Self) } else { Err(refuse()) }
    }
}
