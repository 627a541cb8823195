//! TLS for the console. Handshakes run concurrently, so a slow client does not delay others.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Error;

/// Time limit of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Maximum number of connections with a handshake in progress, or that wait to be served after it;
/// further ones wait in the kernel's queue.
const HANDSHAKES: usize = 256;

/// Reads the certificate chain and the key. Fails with the name of the variable whose file can't be
/// used.
pub(super) fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let refused = |variable: &str, path: &Path, why: &dyn std::fmt::Display| {
        Error::Refused(format!("{variable} {} can't be used: {why}", path.display()))
    };
    let (of_chain, of_key) = ("CONSOLE_TLS_CERT", "CONSOLE_TLS_KEY");
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| refused(of_chain, certificates, &why))?;
    if chain.is_empty() {
        return Err(refused(of_chain, certificates, &"it has no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|why| refused(of_key, key, &why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.and_then(|it| it.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|why| refused(of_key, key, &why))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections over TLS.
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, tls: TlsAcceptor) -> Self {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = listener.local_addr().unwrap_or(unspecified);
        let (to_ready, ready) = mpsc::channel(1);
        tokio::spawn(accept(listener, tls, to_ready));
        Self { ready, address }
    }
}

/// Accepts connections until the listener is dropped.
async fn accept(
    mut listener: TcpListener,
    tls: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // axum's own listener logs errors, and waits after them.
            (place, Listener::accept(&mut listener).await)
        };
        let (place, (stream, from)) = tokio::select! {
            next = next => next,
            () = ready.closed() => return,
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                let _ = ready.send((stream, from)).await;
            }
            drop(place);
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task has ended with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
