//! A proxy before Postgres that measures the traffic of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Code of a start-up message of protocol 3.0. The messages before it, such as a request for TLS,
/// have no type either.
const START_UP: u32 = 196_608;

#[derive(Clone, Default)]
pub(crate) struct Wire {
    sent: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

impl Wire {
    /// Returns a meter, and the address of a proxy that forwards to `url`.
    pub(crate) async fn start(url: &str) -> (Self, String) {
        let mut proxied = url::Url::parse(url).unwrap();
        let server = format!("{}:{}", proxied.host_str().unwrap(), proxied.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxied.set_ip_host(listener.local_addr().unwrap().ip()).unwrap();
        proxied.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let wire = Self::default();
        let accepting = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (read, mut back) = client.into_split();
                let (mut answers, write) = TcpStream::connect(&server).await.unwrap().into_split();
                let wire = accepting.clone();
                tokio::spawn(async move { wire.forward(read, write).await });
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            }
        });
        (wire, proxied.to_string())
    }

    /// Returns the number of bytes of all messages.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of the largest message, for example of a statement's parameters.
    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }

    async fn forward(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        let mut has_started = false;
        loop {
            if has_started {
                to.write_u8(from.read_u8().await?).await?;
            }
            let size = from.read_u32().await?;
            let mut message = vec![0; size as usize - 4];
            from.read_exact(&mut message).await?;
            has_started |= message.starts_with(&START_UP.to_be_bytes());
            self.sent.fetch_add(message.len(), Ordering::SeqCst);
            self.largest.fetch_max(message.len(), Ordering::SeqCst);
            to.write_u32(size).await?;
            to.write_all(&message).await?;
        }
    }
}
