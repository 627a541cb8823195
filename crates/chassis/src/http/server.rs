//! The accept loop. axum's own has no limit on the time that a request's headers take, nor on that of an idle connection.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::keep_alive::timed;

/// Maximum number of connections; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long shutdown waits for requests under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until shutdown, then waits for the requests under way, within a limit. A connection without a request is closed
/// after `keep_alive`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    keep_alive: Duration,
    shutdown: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        let Some((Ok(place), accepted)) = shutdown.run_until_cancelled(next).await else { break };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a connection that ended while it waited.
                tracing::warn!(error = &error as &dyn std::error::Error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let (timer, stream) = timed(stream);
        let mut http = http1::Builder::new();
        http.timer(timer).header_read_timeout(keep_alive);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection failed");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests were still under way {} s after the end was asked for",
            DRAIN.as_secs()
        );
    }
}
