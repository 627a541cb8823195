use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use telemetry::Metrics;

use crate::health::Health;

#[derive(Clone)]
struct Admin {
    health: Health,
    metrics: Metrics,
}

/// The routes of the admin port. They make no spans.
pub(crate) fn routes(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Admin { health, metrics })
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let (code, report) = admin.health.report().await;
    (code, axum::Json(report))
}

async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}
