use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use crate::deferrer::Deferrer;
use crate::scope::{Ended, Scope};

/// Gives each request a scope: its handlers defer, and the tasks begin when the response is sent.
#[derive(Clone, Debug)]
pub struct DeferLayer {
    deferrer: Deferrer,
}

impl DeferLayer {
    /// Layers may share a deferrer, and with it the limits.
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

/// See [`DeferLayer`].
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
        let scope = self.deferrer.scope();
        request.extensions_mut().insert(scope.defer());
        let answered = self.inner.call(request);
        let call = async move {
            let response = answered.await?;
            let how = how(response.status());
            Ok(response.map(|body| DeferBody { body, scope: Some((scope, how)) }))
        };
        // In a task of its own: a client who hangs up does not end it, and what it deferred runs. Nobody takes the
        // response then, which ends the scope like one that was sent.
        let call = tokio::spawn(call.in_current_span());
        Box::pin(async move {
            match call.await {
                Ok(answered) => answered,
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime ends.
                    Err(_) => std::future::pending().await,
                },
            }
        })
    }
}

fn how(status: StatusCode) -> Ended {
    if status.is_client_error() || status.is_server_error() { Ended::Badly } else { Ended::Well }
}

/// A body that ends its scope when the server lets go of it: after the last of it was taken, also if there was
/// nothing to take, and when the client has gone.
#[derive(Debug)]
pub struct DeferBody<B> {
    body: B,
    scope: Option<(Scope, Ended)>,
}

impl<B> Drop for DeferBody<B> {
    fn drop(&mut self) {
        // Never here: the server has yet to flush what it took.
        if let Some((scope, how)) = self.scope.take() {
            scope.end(how);
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
