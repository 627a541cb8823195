//! A TCP proxy in front of Kafka that can delay the broker's answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Range of delays, in milliseconds.
const DELAY: std::ops::Range<u64> = 500..1_500;
/// Maximum number of reads of a connection that wait to be forwarded.
const WAITING: usize = 64;
const BUFFER: usize = 64 * 1024;

/// Whether answers are delayed, and how many were.
#[derive(Debug, Default)]
struct Delays {
    slow: AtomicBool,
    delayed: AtomicUsize,
}

impl Delays {
    /// Returns the time at which the data just read has to be forwarded.
    fn due(&self) -> Instant {
        if !self.slow.load(Ordering::SeqCst) {
            return Instant::now();
        }
        self.delayed.fetch_add(1, Ordering::SeqCst);
        Instant::now() + Duration::from_millis(fastrand::u64(DELAY))
    }
}

/// The proxy. It accepts no more connections when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: String,
    delays: Arc<Delays>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Forwards connections from a free port to the broker's from now on, also before that listens.
    pub(crate) async fn start(broker: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let delays = Arc::new(Delays::default());
        let accepting = tokio::spawn(accept(listener, broker, Arc::clone(&delays)));
        Ok(Self { address, delays, accepting })
    }

    /// Returns the address that clients connect to, and the broker has to advertise.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Starts or stops delaying answers.
    pub(crate) fn set_slow(&self, slow: bool) {
        self.delays.slow.store(slow, Ordering::SeqCst);
    }

    /// Returns the number of delayed answers, or parts of large ones.
    pub(crate) fn delayed(&self) -> usize {
        self.delays.delayed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, delays: Arc<Delays>) {
    // A client whose connection fails reconnects.
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(forward_both(client, port, Arc::clone(&delays)));
    }
}

/// Forwards both directions until both have ended.
async fn forward_both(client: TcpStream, port: u16, delays: Arc<Delays>) -> io::Result<()> {
    let broker = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (mut requests, to_client) = client.into_split();
    let (answers, mut to_broker) = broker.into_split();
    let ask = async {
        copy(&mut requests, &mut to_broker).await?;
        to_broker.shutdown().await
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::try_join!(ask, read(answers, sender, &delays), write(receiver, to_client))?;
    Ok(())
}

/// Reads answers and gives each read its own delay, so answers are late without being fewer.
async fn read(
    mut answers: OwnedReadHalf,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
    delays: &Delays,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = answers.read(&mut buffer).await?;
        let part = (delays.due(), buffer[..length].to_vec());
        if length == 0 || sender.send(part).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut client: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some((due, part)) = receiver.recv().await {
        sleep_until(due).await;
        client.write_all(&part).await?;
    }
    client.shutdown().await
}
