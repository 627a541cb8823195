//! The accept loop. axum's own limits neither the time that a client may stay silent, nor the time
//! that it may read nothing, nor the number of connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use axum::{BoxError, Router};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::write_limit::TimedStream;
use crate::client::CHANGE;

/// Time limit for the headers of the first request of a connection.
const FIRST_HEADERS: Duration = Duration::from_secs(10);
/// Time limit for the body of a request.
const BODY: Duration = Duration::from_mins(2);
/// Time limit of a request until its response begins: that of a change, and of the reads before it.
const ANSWER: Duration = CHANGE.saturating_add(Duration::from_mins(1));
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

/// Serves a connection until it ends, stays silent for too long, or reads its responses too slowly.
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
    let stream = TokioIo::new(TimedStream::new(stream));
    let serving = graceful.watch(http.serve_connection(stream, answering));
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

/// Answers a request. Responds with 408 if its body arrives too slowly, and with 504 if the handler
/// takes too long.
async fn answer<B>(
    service: TowerToHyperService<Router>,
    request: Request<B>,
) -> Result<Response, Infallible>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let is_change = !request.method().is_safe();
    let is_read = CancellationToken::new();
    // Handlers take the whole body before they begin, and drop it; this is dropped with it.
    let reading = is_read.clone().drop_guard();
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &reading;
            frame
        }))
    });
    let body_is_late = async {
        if tokio::time::timeout(BODY, is_read.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let close = [(header::CONNECTION, "close")];
    tokio::select! {
        answered = tokio::time::timeout(ANSWER, service.call(request)) => match answered {
            Ok(answered) => answered,
            Err(_) => Ok((StatusCode::GATEWAY_TIMEOUT, close, late(is_change)).into_response()),
        },
        () = body_is_late => Ok((StatusCode::REQUEST_TIMEOUT, close).into_response()),
    }
}

/// Returns the text of the response to a request that took too long. A service finishes a change
/// even if nobody waits for its response.
fn late(is_change: bool) -> &'static str {
    if is_change {
        "The services have not answered in time. It is unknown whether the change was made: look \
         at the history before you try again.\n"
    } else {
        "The services have not answered in time.\n"
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::routing::{any, get};
    use futures::stream::unfold;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    /// Returns the response to a request whose handler takes this time after the body.
    async fn answered(method: Method, body: Body, takes: Duration) -> (StatusCode, String) {
        let handler = move |_: String| async move { tokio::time::sleep(takes).await };
        let service = TowerToHyperService::new(Router::new().route("/", any(handler)));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        let response = answer(service, request).await.unwrap();
        let status = response.status();
        let text = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        (status, String::from_utf8(text.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_has_the_time_of_the_client_and_one_without_an_answer_is_called_unknown() {
        let body = || Body::from("why=because");
        assert_eq!(answered(Method::POST, body(), CHANGE).await.0, StatusCode::OK);
        let (status, text) = answered(Method::POST, body(), CHANGE * 2).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert!(text.contains("It is unknown whether the change was made"), "{text}");
        let (status, text) = answered(Method::GET, Body::empty(), CHANGE * 2).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert!(!text.contains("change"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_ends_the_request() {
        let start = tokio::time::Instant::now();
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
        let (status, _) = answered(Method::POST, body, Duration::ZERO).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert!(start.elapsed() < CHANGE, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_loses_its_connection() {
        let router = Router::new().route("/", get(async || vec![b'x'; 1024 * 1024]));
        let graceful = GracefulShutdown::new();
        let (mut client, stream) = tokio::io::duplex(1024);
        let start = Instant::now();
        let serving = tokio::spawn(connection(stream, router, &graceful));
        let requests = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20);
        client.write_all(&requests).await.unwrap();
        tokio::time::timeout(IDLE * 10, serving).await.expect("an end").unwrap();
        assert_eq!(start.elapsed().as_secs(), 30);
        let mut unread = Vec::new();
        client.read_to_end(&mut unread).await.unwrap();
        assert!(unread.len() <= 1024, "{}", unread.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_signals_goes_on_as_long_as_its_client_reads() {
        let signals = async || {
            Body::from_stream(unfold(0, |sent| async move {
                tokio::time::sleep(Duration::from_secs(15)).await;
                (sent < 100).then_some((Ok::<_, Infallible>("event: lag\n\n"), sent + 1))
            }))
        };
        let router = Router::new().route("/", get(signals));
        let graceful = GracefulShutdown::new();
        let (mut client, stream) = tokio::io::duplex(1024);
        tokio::spawn(connection(stream, router, &graceful));
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut read = String::new();
        client.read_to_string(&mut read).await.unwrap();
        assert_eq!(read.matches("event: lag").count(), 100, "{read}");
    }
}
