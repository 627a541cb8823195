//! A mail server that records messages. The recipient determines its reply.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long the content of a message to `scanned@` is scanned before it is accepted.
const SCAN: Duration = Duration::from_secs(8);

/// A message that was received completely.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) data: String,
    pub(crate) accepted: bool,
}

impl Delivery {
    pub(crate) fn header(&self, name: &str) -> &str {
        let headers = self.data.split("\r\n\r\n").next().unwrap();
        let mut lines = headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|line| line.0 == name).unwrap().1
    }
}

#[derive(Clone, Default)]
pub(crate) struct Sink {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    tries: Arc<Mutex<HashMap<String, usize>>>,
    /// Number of further connections that are turned away.
    turned_away: Arc<AtomicUsize>,
    /// Lets `doubtful@` be refused.
    refusal: Arc<Notify>,
}

impl Sink {
    /// Listens on a free port.
    pub(crate) async fn start() -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (Self::serve(listener), port)
    }

    pub(crate) fn serve(listener: TcpListener) -> Self {
        let sink = Self::default();
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                // An error only means that the client closed the connection.
                tokio::spawn(async move { sink.receive(stream).await.ok() });
            }
        });
        sink
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// Returns the number of attempts to send to this address.
    pub(crate) fn tries(&self, to: &str) -> usize {
        self.tries.lock().unwrap().get(to).copied().unwrap_or_default()
    }

    /// Turns the next connections away.
    pub(crate) fn turns_away(&self, connections: usize) {
        self.turned_away.store(connections, Ordering::SeqCst);
    }

    /// Refuses an e-mail to `doubtful@example.com`, which waits until then.
    pub(crate) fn refuses_the_doubtful(&self) {
        self.refusal.notify_one();
    }

    async fn receive(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let (mut from, mut to) = (String::new(), Vec::new());
        let left = |left: usize| left.checked_sub(1);
        if self.turned_away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return write.write_all(b"554 5.3.2 no service here\r\n").await;
        }
        write.write_all(b"220 sink\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let path = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let reply = match line.split([' ', ':']).next().unwrap() {
                "EHLO" => "250-sink\r\n250 8BITMIME",
                "MAIL" => {
                    (from, to) = (path, Vec::new());
                    "250 OK"
                }
                "RCPT" => {
                    *self.tries.lock().unwrap().entry(path.clone()).or_default() += 1;
                    to.push(path.clone());
                    match path.split('@').next().unwrap() {
                        "refused" | "mute.refused" => {
                            "550-5.1.1 there is no such mailbox\r\n550 5.1.1 and never was"
                        }
                        "stranger" => "530 5.7.0 log in first",
                        "hanging" => std::future::pending().await,
                        "doubtful" => {
                            self.refusal.notified().await;
                            "550 5.1.1 <doubtful@example.com>: unknown"
                        }
                        _ => "250 OK",
                    }
                }
                "DATA" => {
                    write.write_all(b"354 go ahead\r\n").await?;
                    let mut data = String::new();
                    while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                        data.push_str(line.strip_prefix('.').unwrap_or(&line));
                        data.push_str("\r\n");
                    }
                    let accepted = !to[0].starts_with("later@") || self.tries(&to[0]) > 1;
                    let delivery = Delivery { from: from.clone(), to: to.clone(), data, accepted };
                    self.deliveries.lock().unwrap().push(delivery);
                    if to[0].starts_with("scanned@") {
                        tokio::time::sleep(SCAN).await;
                    }
                    if accepted { "250 OK" } else { "451 try later" }
                }
                "QUIT" if to.iter().any(|to| to.starts_with("mute")) => {
                    std::future::pending().await
                }
                "QUIT" => "221 bye",
                _ => "502 unknown",
            };
            write.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}
