//! The accept loop. axum's own limits neither the time of a request's headers nor that of an idle
//! connection.

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

use super::caller::DisconnectSignal;
use super::exchange::Exchange;
use super::keep_alive::timed;

/// Maximum number of connections where no container limits the memory; further ones wait in the
/// kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Number of connections that even a small container serves, and that the admin port serves.
pub(crate) const MIN_CONNECTIONS: usize = 256;
/// Maximum size of the head of a request. hyper's own limit, of 400 KiB, is more than a container
/// has for all connections.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Size of the kernel's send buffer of a connection, in bytes; Linux doubles it. By default it
/// grows to megabytes, which are part of the container's memory, and a slow reader would go
/// unnoticed. With less than a segment of the loopback interface (64 KiB) every write waits for a
/// delayed acknowledgement: with 16 and 32 KiB, lists of 4 MiB were sent at 2 MB/s instead of 1,000
/// and more.
const SEND_BUFFER: u32 = 64 * 1024;
/// Maximum memory of a connection in addition to the counted bytes: an unfinished head and the
/// kernel's buffer of a response.
const CONNECTION_BYTES: usize = MAX_HEAD_BYTES + 2 * SEND_BUFFER as usize;
/// Divisor: connections may occupy half of a container's memory.
const OF_CONTAINER: usize = 2;
/// Maximum number of connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Maximum time that shutdown waits for requests in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// Returns the number of connections whose heads and buffers fit into half of a container's memory:
/// 455 of 144 KiB each in one of 128 MiB.
pub(crate) fn max_connections(container: Option<usize>) -> usize {
    container.map_or(MAX_CONNECTIONS, |limit| {
        (limit / OF_CONTAINER / CONNECTION_BYTES).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
    })
}

/// Binds an address, for connections with a bounded send buffer. Connections are refused until
/// [`listen`].
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As in `TcpListener::bind`, so that a restart need not wait for connections of the previous
    // process.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Lets clients connect. Their connections wait in the kernel until [`serve`] accepts them.
pub(crate) fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)
}

/// Serves until shutdown, then waits for the requests in flight, at most [`DRAIN`]. Closes a
/// connection without a request after `keep_alive`. At most `max_connections` are open.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    (keep_alive, max_connections): (Duration, usize),
    shutdown: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(max_connections));
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
                // The process is out of file descriptors, or the connection ended while it waited.
                tracing::warn!(error = &error as &dyn std::error::Error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let exchange = Exchange::default();
        let (timer, stream) = timed(stream, exchange.clone());
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: hyper::Request<_>| {
            exchange.begin();
            let disconnect = DisconnectSignal::default();
            request.extensions_mut().insert(disconnect.clone());
            let (answering, exchange) = (inner.call(request), exchange.clone());
            async move {
                // Dropped with this future, which ends when the connection is closed. The handler
                // keeps running.
                let _present = disconnect.when_dropped();
                answering.await.map(|response| exchange.send(response))
            }
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
            seconds = DRAIN.as_secs(),
            "requests still in flight after the shutdown signal"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_half_of_a_container_at_most() {
        assert_eq!(max_connections(None), 4096);
        for (mib, connections) in [(16, 256), (128, 455), (512, 1_820), (4_096, 4_096)] {
            assert_eq!(max_connections(Some(mib * 1024 * 1024)), connections, "{mib} MiB");
        }
    }
}
