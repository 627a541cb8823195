//! A server with one route, whose handler the test defines.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use defer::{Defer, DeferLayer, Deferrer, Options};
use futures::future::BoxFuture;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::metrics::noop::NoopMeterProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than anything takes in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

type Handle = dyn Fn(Defer) -> BoxFuture<'static, Response> + Send + Sync;

/// Records the words of tasks, in order.
#[derive(Clone)]
pub(crate) struct Words {
    sender: UnboundedSender<&'static str>,
}

impl Words {
    pub(crate) fn record(&self, word: &'static str) {
        self.sender.send(word).unwrap();
    }

    /// Returns a task that only records a word.
    pub(crate) fn task(&self, word: &'static str) -> impl Future<Output = ()> + Send + 'static {
        let words = self.clone();
        async move { words.record(word) }
    }
}

pub(crate) struct RecordedWords(UnboundedReceiver<&'static str>);

impl RecordedWords {
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("nothing was said").unwrap()
    }

    /// Returns all recorded words, once no more can follow.
    pub(crate) fn rest(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

pub(crate) fn words() -> (Words, RecordedWords) {
    let (sender, recorded) = unbounded_channel();
    (Words { sender }, RecordedWords(recorded))
}

pub(crate) fn deferrer(options: Options) -> Deferrer {
    Deferrer::new(options, &NoopMeterProvider::new().meter("test"))
}

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) deferrer: Deferrer,
}

impl House {
    /// Starts a server that answers every request with `handle`.
    pub(crate) async fn new<F>(handle: impl Fn(Defer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        Self::with(Options::default(), handle).await
    }

    pub(crate) async fn with<F>(
        options: Options,
        handle: impl Fn(Defer) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let handle: Arc<Handle> = Arc::new(move |defer| Box::pin(handle(defer)));
        let deferrer = deferrer(options);
        let app = Router::new()
            .route("/", any(move |defer: Defer| handle(defer)))
            .layer(DeferLayer::new(deferrer.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, deferrer }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends one request on a separate connection. Returns the status and the body.
    pub(crate) async fn get(&self) -> (u16, String) {
        request(&mut self.connect().await, "GET").await
    }

    /// Waits for all tasks. Returns the number of dropped ones.
    pub(crate) async fn drained(&self) -> u64 {
        self.deferrer.drain(PATIENCE).await.dropped
    }
}

/// Sends a request on a connection that stays open, and reads only the response.
pub(crate) async fn request(connection: &mut TcpStream, method: &str) -> (u16, String) {
    send(connection, method).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(PATIENCE, connection.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
    connection.read_exact(&mut body).await.unwrap();
    (status, String::from_utf8(body).unwrap())
}

pub(crate) async fn send(connection: &mut TcpStream, method: &str) {
    let request = format!("{method} / HTTP/1.1\r\nhost: test\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
}

/// Blocks a task until the test releases it.
pub(crate) struct Gate(Arc<Mutex<Option<tokio::sync::oneshot::Receiver<()>>>>);

impl Gate {
    pub(crate) fn new() -> (Self, tokio::sync::oneshot::Sender<()>) {
        let (open, closed) = tokio::sync::oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(closed)))), open)
    }

    /// Returns the receiver. It can be taken once.
    pub(crate) fn take(&self) -> tokio::sync::oneshot::Receiver<()> {
        self.0.lock().unwrap().take().unwrap()
    }
}
