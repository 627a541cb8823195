//! The accept loop. axum's own limits neither the time that a client may stay silent nor the number
//! of connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Time limit for the headers of the first request of a connection.
const FIRST_HEADERS: Duration = Duration::from_secs(10);
/// Time limit of a request, including its body, until its response begins.
const REQUEST: Duration = Duration::from_mins(2);
/// How long a connection may be idle before the headers of its next request are complete: longer
/// than common load balancers keep theirs.
const IDLE: Duration = Duration::from_secs(75);
/// Maximum number of connections; further ones wait in the kernel's queue. Each open page holds
/// one.
const MAX_CONNECTIONS: usize = 768;
/// Maximum size of a request's headers, including the request line.
const MAX_HEADERS: usize = 64 * 1024;

/// Serves until shutdown, then waits for requests in progress, within a time limit.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    shutdown: &CancellationToken,
    drain: Duration,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // The listener logs errors and continues.
            (place, listener.accept().await)
        };
        let Some((Ok(place), (stream, _))) = shutdown.run_until_cancelled(next).await else {
            break;
        };
        let connection = connection(stream, router.clone(), &graceful);
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            seconds = drain.as_secs(),
            "requests still in flight after the shutdown signal"
        );
    }
}

/// Serves a connection until it ends, or stays silent for too long.
fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + 'static {
    let asked = Arc::new(AtomicBool::new(false));
    let service = TowerToHyperService::new(router);
    let answering = {
        let asked = Arc::clone(&asked);
        service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            answer(service.clone(), request)
        })
    };
    let mut http = http1::Builder::new();
    // hyper's limit covers the time from the end of one request to the end of the next one's
    // headers.
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEADERS);
    let serving = graceful.watch(http.serve_connection(TokioIo::new(stream), answering));
    async move {
        let idle = async {
            tokio::time::sleep(FIRST_HEADERS).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection failed");
                }
            }
            () = idle => tracing::debug!("connection without a request closed"),
        }
    }
}

/// Answers a request, or responds with 408 if it takes too long, because its body may arrive
/// slowly.
async fn answer(
    service: TowerToHyperService<Router>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    match tokio::time::timeout(REQUEST, service.call(request)).await {
        Ok(answered) => answered,
        Err(_) => {
            Ok((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response())
        }
    }
}
