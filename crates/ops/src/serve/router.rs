//! What port 8080 answers. The pages of the console join this router.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::exposition;
use super::poller::{Measured, Services};
use crate::alerts::Active;

/// What was polled last.
#[derive(Clone)]
pub(crate) struct Console {
    pub(crate) services: watch::Receiver<Services>,
    pub(crate) lag: watch::Receiver<Measured>,
    pub(crate) alerts: watch::Receiver<Vec<Active>>,
}

const INDEX: &str = "\
orderflow serve

  /metrics   lag, dead letters, failed jobs, outboxes and alerts, for Prometheus
  /healthz   200 while services and Kafka are polled
";

/// Returns the routes.
pub(crate) fn router(console: Console) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(console)
}

/// Whether Kafka or a service answers is not the health of this process.
async fn healthz(State(console): State<Console>) -> Response {
    let polls = console.services.borrow().as_ref().is_none_or(|it| it.fresh().is_some())
        && console.lag.borrow().as_ref().is_none_or(|it| it.fresh().is_some());
    if polls {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "nothing was polled for half a minute\n").into_response()
    }
}

async fn metrics(State(console): State<Console>) -> Response {
    let services = console.services.borrow().clone();
    let lag = console.lag.borrow().clone();
    let lag = lag.as_ref().and_then(|it| it.fresh()?.as_ref().ok());
    let services = services.as_ref().and_then(|it| it.fresh()).map(Vec::as_slice);
    let alerts = console.alerts.borrow().clone();
    match exposition::render(services, lag, &alerts) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics not rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
