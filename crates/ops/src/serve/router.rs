//! Routes of `orderflow serve`.

use axum::extract::{FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::sync::watch;

use super::exposition;
use super::poller::{Measured, Services};
use super::trends::Trends;
use crate::alerts::Active;
use crate::console::{self, Console, access};

/// The polled data.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) services: watch::Receiver<Services>,
    pub(crate) lag: watch::Receiver<Measured>,
    pub(crate) alerts: watch::Receiver<Vec<Active>>,
    pub(crate) trends: watch::Receiver<Trends>,
}

#[cfg(test)]
impl Watched {
    /// Returns fixed data, as if it was polled now.
    pub(crate) fn fixed(
        services: Vec<super::ServiceState>,
        lag: Result<crate::lag::Lag, String>,
        alerts: Vec<Active>,
        trends: Trends,
    ) -> Self {
        use super::poller::Polled;
        Self {
            services: watch::channel(Some(Polled::new(services))).1,
            lag: watch::channel(Some(Polled::new(lag))).1,
            alerts: watch::channel(alerts).1,
            trends: watch::channel(trends).1,
        }
    }
}

/// Returns the routes of the console: pages, and the routes for programs.
pub(crate) fn router(console: Console) -> Router {
    let routes = programs().merge(console::routes(&console)).with_state(console);
    routes.layer(middleware::from_fn(access::policy))
}

/// Returns the routes for programs, which have neither sign-in nor a check of the host.
pub(crate) fn programs<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Watched: FromRef<S>,
{
    Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics))
}

/// Reports the health of this process, whether or not Kafka and the services answer.
async fn healthz(State(watched): State<Watched>) -> Response {
    let polls = watched.services.borrow().as_ref().is_none_or(|it| it.fresh().is_some())
        && watched.lag.borrow().as_ref().is_none_or(|it| it.fresh().is_some());
    if polls {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "nothing was polled for half a minute\n").into_response()
    }
}

async fn metrics(State(watched): State<Watched>) -> Response {
    let services = watched.services.borrow().clone();
    let lag = watched.lag.borrow().clone();
    let lag = lag.as_ref().and_then(|it| it.fresh()?.as_ref().ok());
    let services = services.as_ref().and_then(|it| it.fresh()).map(Vec::as_slice);
    let alerts = watched.alerts.borrow().clone();
    match exposition::render(services, lag, &alerts) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics not rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
