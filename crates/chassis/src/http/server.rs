//! The accept loop. axum's own has no limit on the time that a request's headers take, nor on that of an idle connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::keep_alive::timed;

/// Maximum number of connections; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Maximum size of the head of a request: hyper's own limit, of 400 KiB, is more than a container has for all connections.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes that the kernel buffers of a response. By itself it takes megabytes of each, in memory of the container, and a slow
/// reader would go unnoticed.
const SEND_BUFFER: u32 = 128 * 1024;
/// How many connections wait in the kernel until they are accepted.
const BACKLOG: u32 = 1024;
/// How long shutdown waits for requests under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Listens on an address, for connections with a bounded send buffer.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does, so that a restart need not wait for connections of the process before.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

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
        let exchange = Exchange::default();
        let (timer, stream) = timed(stream, exchange.clone());
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request| {
            exchange.begin();
            let (answering, exchange) = (inner.call(request), exchange.clone());
            async move { answering.await.map(|response| exchange.send(response)) }
        });
        let mut http = http1::Builder::new();
        http.timer(timer).header_read_timeout(keep_alive).max_buf_size(MAX_HEAD_BYTES);
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
