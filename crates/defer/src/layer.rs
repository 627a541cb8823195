use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use crate::deferrer::Deferrer;
use crate::scope::{Ended, Scope};

/// Creates a scope for each request: its handlers defer tasks, which start when the response has
/// been sent.
///
/// ```
/// use axum::{Router, routing::post};
/// use defer::{Defer, DeferLayer, Deferrer};
///
/// async fn place_order(defer: Defer) -> &'static str {
///     defer.run("inventory sync", async { /* tell a third party */ });
///     "placed"
/// }
///
/// fn app(deferrer: Deferrer) -> Router {
///     Router::new().route("/orders", post(place_order)).layer(DeferLayer::new(deferrer))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct DeferLayer {
    deferrer: Deferrer,
}

impl DeferLayer {
    /// Creates a layer. Layers may share a deferrer with its limits.
    pub fn new(deferrer: Deferrer) -> Self {
        Self { deferrer }
    }
}

impl<S> Layer<S> for DeferLayer {
    type Service = DeferService<S>;

    fn layer(&self, inner: S) -> DeferService<S> {
        DeferService { inner, deferrer: self.deferrer.clone() }
    }
}

/// The service of a [`DeferLayer`].
#[derive(Clone, Debug)]
pub struct DeferService<S> {
    inner: S,
    deferrer: Deferrer,
}

impl<S, A, B> Service<Request<A>> for DeferService<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send + 'static, Error: Send + 'static>,
    B: Send + 'static,
{
    type Response = Response<DeferBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let open = Open { scope: self.deferrer.scope(), _awaited: self.deferrer.awaited() };
        request.extensions_mut().insert(open.scope.defer());
        let answered = self.inner.call(request);
        let call = async move {
            let response = answered.await?;
            let how = how(response.status());
            Ok(response.map(|body| DeferBody { body, open: Some((open, how)) }))
        };
        // In a separate task, so that a disconnect does not cancel it, and its deferred tasks run.
        // The response is dropped then, which ends the scope as if it had been sent.
        let call = tokio::spawn(call.in_current_span());
        Box::pin(async move {
            match call.await {
                Ok(answered) => answered,
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down.
                    Err(_) => std::future::pending().await,
                },
            }
        })
    }
}

fn how(status: StatusCode) -> Ended {
    if status.is_client_error() || status.is_server_error() { Ended::Badly } else { Ended::Well }
}

/// A request until its scope has ended. Fields are dropped in this order, so a drain that no longer
/// waits for the request sees its tasks.
#[derive(Debug)]
struct Open {
    scope: Scope,
    _awaited: TaskTrackerToken,
}

/// A body that ends its scope when the server drops it: after its last byte, also if it is empty,
/// or when the client has disconnected.
#[derive(Debug)]
pub struct DeferBody<B> {
    body: B,
    open: Option<(Open, Ended)>,
}

impl<B> Drop for DeferBody<B> {
    fn drop(&mut self) {
        // Not at the end of the stream, when the server has not flushed it yet.
        if let Some((open, how)) = self.open.take() {
            open.scope.end(how);
        }
    }
}

impl<B: Body + Unpin> Body for DeferBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
