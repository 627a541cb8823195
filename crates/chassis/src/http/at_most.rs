use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use super::problem::Problem;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets at most `at_once` requests of these routes be handled concurrently. Meant for reports,
/// whose slow statements would otherwise use up the connections. Further requests wait for up to 5
/// s, then get a 503 with `Retry-After`.
pub fn at_most<S: Clone + Send + Sync + 'static>(
    at_once: usize,
    routes: OpenApiRouter<S>,
) -> OpenApiRouter<S> {
    let turns = Arc::new(Semaphore::new(at_once));
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        let turns = Arc::clone(&turns);
        async move { in_turn(&turns, request, next).await }
    }))
}

async fn in_turn(turns: &Semaphore, request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, turns.acquire()).await {
        Ok(_turn) => next.run(request).await,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            "too many requests of this kind are being handled; try again",
        )
        .with_header(header::RETRY_AFTER, "5")
        .into_response(),
    }
}
