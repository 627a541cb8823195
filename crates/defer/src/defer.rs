use std::sync::Arc;

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::metrics::noop::NoopMeterProvider;

use crate::deferrer::{Deferrer, Options};
use crate::held::Held;
use crate::scope::{Inner, Scope};
use crate::task::{Deferred, Task, TaskResult};

/// Defers work until after the response. It is an extractor; clones defer to the same request.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use defer::Defer;
///
/// async fn place_order(defer: Defer, told: Arc<AtomicBool>) -> &'static str {
///     defer.run("inventory sync", async move { told.store(true, Ordering::Relaxed) });
///     "placed"
/// }
///
/// let (defer, told) = (defer::immediate(), Arc::new(AtomicBool::new(false)));
/// assert_eq!(place_order(defer.clone(), told.clone()).await, "placed");
/// defer.finished().await;
/// assert!(told.load(Ordering::Relaxed));
/// # }
/// ```
#[derive(Clone)]
pub struct Defer {
    scope: Arc<Inner>,
    /// `true` if tasks run at once.
    at_once: bool,
}

impl Defer {
    pub(crate) fn new(scope: Arc<Inner>) -> Self {
        Self { scope, at_once: false }
    }

    /// Runs `work` when the response has been sent, unless that is an error. `label` names the work
    /// in logs and metrics; tasks with the same label share limits. The returned value sets
    /// options: [`Deferred::always`], [`Deferred::named`], [`Deferred::time_limit`],
    /// [`Deferred::without_span`].
    pub fn run<O: TaskResult>(
        &self,
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Deferred<'_> {
        if self.at_once {
            let deferrer = self.scope.deferrer.clone();
            let task = Task::alone(label, work);
            self.scope.deferrer.spawn(async move { deferrer.run(task).await });
            return Deferred { of: None };
        }
        self.scope.tasks.push(label, work).unwrap_or_else(|| {
            self.scope.deferrer.dropped(label, "its request is long over");
            Deferred { of: None }
        })
    }

    /// Cancels the task that was deferred under a name.
    pub fn forget(&self, name: &str) {
        self.scope.tasks.forget(name);
    }

    /// Runs the tasks of this request sequentially, in the order of deferral, instead of
    /// concurrently.
    pub fn in_order(&self) {
        self.scope.in_order();
    }

    /// Holds tasks back until a transaction has committed.
    pub fn after_commit(&self) -> Held {
        Held::new(self.clone())
    }

    /// Waits until all tasks have ended. For tests, with [`immediate`].
    pub async fn finished(&self) {
        self.scope.deferrer.idle().await;
    }

    pub(crate) fn adopt(&self, tasks: Vec<Task>) {
        if self.at_once {
            for task in tasks {
                let deferrer = self.scope.deferrer.clone();
                self.scope.deferrer.spawn(async move { deferrer.run(task).await });
            }
            return;
        }
        for late in self.scope.tasks.push_all(tasks) {
            self.scope.deferrer.dropped(late.label, "its request is long over");
        }
    }
}

/// Creates a `Defer` for tests: tasks start at once, regardless of their options, and
/// [`Defer::finished`] waits for them.
pub fn immediate() -> Defer {
    let meter = NoopMeterProvider::new().meter("defer");
    let scope: Scope = Deferrer::new(Options::default(), &meter).scope();
    Defer { at_once: true, ..scope.defer() }
}

/// Error of a route without a [`DeferLayer`](crate::DeferLayer). The response is 500, and the error
/// is logged.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this route is not under a DeferLayer")]
pub struct NoDeferLayer;

impl IntoResponse for NoDeferLayer {
    fn into_response(self) -> Response {
        tracing::error!("request failed, route has no DeferLayer");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Defer {
    type Rejection = NoDeferLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoDeferLayer> {
        parts.extensions.get::<Self>().cloned().ok_or(NoDeferLayer)
    }
}

impl std::fmt::Debug for Defer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Defer")
    }
}
