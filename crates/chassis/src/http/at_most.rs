use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use envelope::TenantId;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;

use super::identity::Identity;
use super::problem::Problem;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets at most `at_once` requests of these routes be handled concurrently, and one of each tenant.
/// Meant for reports, whose slow statements would otherwise use up the connections. Further
/// requests wait for up to 5 s, then get a 503 with `Retry-After`.
pub fn at_most<S: Clone + Send + Sync + 'static>(
    at_once: usize,
    routes: OpenApiRouter<S>,
) -> OpenApiRouter<S> {
    let turns = Arc::new(Turns::new(at_once));
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        let turns = Arc::clone(&turns);
        async move { in_turn(&turns, request, next).await }
    }))
}

async fn in_turn(turns: &Turns, request: Request, next: Next) -> Response {
    let identity = request.extensions().get::<Identity>();
    let Some(tenant) = identity.and_then(|identity| identity.tenant.clone()) else {
        // The handler refuses it.
        return next.run(request).await;
    };
    let queue = turns.queue(tenant);
    let turn = async { (queue.turn.acquire().await, turns.places.acquire().await) };
    match tokio::time::timeout(PATIENCE, turn).await {
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

/// The places, and the queues of the tenants that wait for one or have one. A tenant waits for a
/// place with one request at a time, so that each tenant waits for one request of every other.
struct Turns {
    places: Semaphore,
    queues: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

/// A request in the queue of its tenant.
struct Queued<'a> {
    turns: &'a Turns,
    tenant: TenantId,
    turn: Arc<Semaphore>,
}

impl Turns {
    fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), queues: Mutex::default() }
    }

    fn queue(&self, tenant: TenantId) -> Queued<'_> {
        let new = || Arc::new(Semaphore::new(1));
        let turn = Arc::clone(self.queues().entry(tenant.clone()).or_insert_with(new));
        Queued { turns: self, tenant, turn }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Semaphore>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        // The map has one, this request the other; more are only made under the lock.
        if Arc::strong_count(&self.turn) == 2 {
            queues.remove(&self.tenant);
        }
    }
}
