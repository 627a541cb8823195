//! A proxy before Postgres that a test can close or freeze.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections to the server of a database.
pub(crate) struct Gate {
    address: SocketAddr,
    server: String,
    /// URL of the database through the gate.
    pub(crate) url: String,
    /// Number of freezes.
    frozen: Arc<watch::Sender<u32>>,
    open: Option<JoinSet<()>>,
}

impl Gate {
    pub(crate) async fn new(database_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (login, rest) = database_url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let url = format!("{login}@{address}/{database}");
        let frozen = Arc::new(watch::Sender::new(0));
        let mut gate = Self { address, server: server.to_owned(), url, frozen, open: None };
        gate.forward_from(listener);
        gate
    }

    /// Refuses new connections and resets the open ones.
    pub(crate) async fn close(&mut self) {
        self.open.take().unwrap().shutdown().await;
    }

    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.forward_from(listener);
    }

    /// Freezes the open connections: they transfer nothing and do not end, as if the server had
    /// stopped.
    pub(crate) fn freeze_connections(&self) {
        self.frozen.send_modify(|times| *times += 1);
    }

    fn forward_from(&mut self, listener: TcpListener) {
        let (server, frozen) = (self.server.clone(), Arc::clone(&self.frozen));
        let mut open = JoinSet::new();
        open.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(forward(near, server.clone(), frozen.subscribe()));
            }
        });
        self.open = Some(open);
    }
}

async fn forward(mut near: TcpStream, server: String, mut frozen: watch::Receiver<u32>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    tokio::select! {
        biased;
        _ = frozen.changed() => std::future::pending().await,
        _ = copy_bidirectional(&mut near, &mut far) => {}
    }
}
