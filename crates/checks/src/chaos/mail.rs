//! A mail server that records accepted messages, and fails or hangs on demand.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Reaction of the server to a message that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Accepts it.
    Accept,
    /// Refuses it temporarily (451).
    Refuse,
    /// Neither accepts nor refuses it until the behaviour changes.
    Hang,
    /// Accepts it and withholds the answer until the behaviour changes.
    AcceptAndHang,
}

/// Counts of one `Message-ID`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of acceptances.
    pub(crate) accepted: u32,
    /// Number of acceptances after which the client sent another command, and so had read the
    /// answer. After any other it can't know whether the message was accepted.
    pub(crate) confirmed: u32,
}

/// A mail server in this process. It stops when dropped.
#[derive(Debug)]
pub(crate) struct MailServer {
    address: SocketAddr,
    state: State,
    serving: JoinHandle<()>,
}

impl MailServer {
    /// Listens on a free port of loopback.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = State::new();
        let serving = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { address, state, serving })
    }

    /// Returns `smtp://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Changes the behaviour, also for clients that wait for an answer.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    /// Returns the number of clients that wait for a withheld answer.
    pub(crate) fn waiting(&self) -> usize {
        self.state.counts().waiting
    }

    /// Returns the number of refused messages.
    pub(crate) fn refused(&self) -> usize {
        self.state.counts().refused
    }

    /// Returns the number of clients that disconnected while they waited for an answer.
    pub(crate) fn abandoned(&self) -> usize {
        self.state.counts().abandoned
    }

    /// Returns the counts of each message by its `Message-ID`.
    pub(crate) fn tallies(&self) -> HashMap<String, Tally> {
        self.state.counts().tallies.clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Debug, Default)]
struct Counts {
    tallies: HashMap<String, Tally>,
    waiting: usize,
    refused: usize,
    abandoned: usize,
}

#[derive(Clone, Debug)]
struct State {
    behaviour: Arc<watch::Sender<Behaviour>>,
    counts: Arc<Mutex<Counts>>,
}

impl State {
    fn new() -> Self {
        let behaviour = Arc::new(watch::Sender::new(Behaviour::Accept));
        Self { behaviour, counts: Arc::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self, message_id: &str, count: impl FnOnce(&mut Tally)) {
        count(self.counts().tallies.entry(message_id.to_owned()).or_default());
    }
}

async fn serve(listener: TcpListener, state: State) {
    while let Ok((stream, _)) = listener.accept().await {
        let session = Session::new(stream, state.clone());
        // A disconnect ends only this session.
        tokio::spawn(async move { session.run().await.ok() });
    }
}

/// One connection (RFC 5321, section 3).
struct Session {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    state: State,
    /// `Message-ID` of the last accepted message, until the client has sent another command.
    unconfirmed: Option<String>,
}

impl Session {
    fn new(stream: TcpStream, state: State) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write, state, unconfirmed: None }
    }

    async fn run(mut self) -> std::io::Result<()> {
        self.reply("220 checks").await?;
        while let Some(line) = self.lines.next_line().await? {
            if let Some(message_id) = self.unconfirmed.take() {
                self.state.tally(&message_id, |tally| tally.confirmed += 1);
            }
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.reply("250-checks\r\n250 8BITMIME").await?,
                "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => self.reply("250 OK").await?,
                "DATA" => {
                    self.reply("354 go ahead").await?;
                    let message_id = self.read_message().await?;
                    if !self.settle(message_id).await? {
                        return Ok(());
                    }
                }
                "QUIT" => return self.reply("221 bye").await,
                _ => self.reply("502 unknown command").await?,
            }
        }
        Ok(())
    }

    async fn reply(&mut self, text: &str) -> std::io::Result<()> {
        self.write.write_all(format!("{text}\r\n").as_bytes()).await
    }

    /// Reads a message to its end. Returns its `Message-ID`, or an empty text if it has none.
    async fn read_message(&mut self) -> std::io::Result<String> {
        let (mut header, mut in_headers) = (String::new(), true);
        let mut message_id = String::new();
        loop {
            let Some(line) = self.lines.next_line().await? else {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            };
            if line == "." {
                return Ok(message_id);
            }
            if !in_headers {
                continue;
            }
            in_headers = !line.is_empty();
            // A header may continue on further lines (RFC 5322, section 2.2.3).
            if line.starts_with([' ', '\t']) {
                header.push_str(&line);
            } else {
                header = line;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("message-id")
            {
                value.trim().clone_into(&mut message_id);
            }
        }
    }

    /// Accepts or refuses a message. Returns `false` if the client disconnected before the answer.
    async fn settle(&mut self, message_id: String) -> std::io::Result<bool> {
        let mut accepted = false;
        loop {
            let behaviour = *self.state.behaviour.borrow();
            if matches!(behaviour, Behaviour::Accept | Behaviour::AcceptAndHang) && !accepted {
                accepted = true;
                self.state.tally(&message_id, |tally| tally.accepted += 1);
            }
            match behaviour {
                Behaviour::Hang | Behaviour::AcceptAndHang => {
                    if !self.wait_while(behaviour).await {
                        return Ok(false);
                    }
                }
                Behaviour::Refuse if !accepted => {
                    self.state.counts().refused += 1;
                    self.reply("451 try again later").await?;
                    return Ok(true);
                }
                Behaviour::Refuse | Behaviour::Accept => {
                    self.unconfirmed = Some(message_id);
                    self.reply("250 OK").await?;
                    return Ok(true);
                }
            }
        }
    }

    /// Waits until the behaviour changes. Returns `false` if the client disconnected first.
    async fn wait_while(&mut self, behaviour: Behaviour) -> bool {
        let mut behaviours = self.state.behaviour.subscribe();
        self.state.counts().waiting += 1;
        let stayed = tokio::select! {
            changed = behaviours.wait_for(|now| *now != behaviour) => changed.is_ok(),
            // A waiting client sends nothing, so this is its disconnect.
            _ = self.lines.next_line() => false,
        };
        let mut counts = self.state.counts();
        counts.waiting -= 1;
        counts.abandoned += usize::from(!stayed);
        stayed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbox::testing::eventually;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Sends a message. Returns the stream before the answer is read.
    async fn send(server: &MailServer, message_id: &str) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(TcpStream::connect(server.address).await.unwrap());
        for (command, code) in [
            ("", "220"),
            ("EHLO x\r\n", "250-"),
            ("", "250 "),
            ("MAIL FROM:<a@x>\r\n", "250"),
            ("RCPT TO:<b@x>\r\n", "250"),
            ("DATA\r\n", "354"),
        ] {
            stream.write_all(command.as_bytes()).await.unwrap();
            assert!(answer(&mut stream).await.starts_with(code), "{command}");
        }
        let message =
            format!("message-id:\r\n {message_id}\r\nSubject: x\r\n\r\nMessage-ID: y\r\n.\r\n");
        stream.write_all(message.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(stream: &mut BufReader<TcpStream>) -> String {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line
    }

    #[tokio::test]
    async fn acceptances_are_counted_by_message_id_and_confirmed_by_the_next_command() {
        let server = MailServer::start().await.unwrap();
        let mut first = send(&server, "<1@x>").await;
        assert!(answer(&mut first).await.starts_with("250"));
        drop(first);
        let mut second = send(&server, "<1@x>").await;
        assert!(answer(&mut second).await.starts_with("250"));
        second.write_all(b"QUIT\r\n").await.unwrap();
        assert!(answer(&mut second).await.starts_with("221"));
        let expected = HashMap::from([("<1@x>".into(), Tally { accepted: 2, confirmed: 1 })]);
        assert_eq!(server.tallies(), expected);
    }

    #[tokio::test]
    async fn a_refused_message_is_not_accepted() {
        let server = MailServer::start().await.unwrap();
        server.behave(Behaviour::Refuse);
        assert!(answer(&mut send(&server, "<1@x>").await).await.starts_with("451"));
        assert_eq!((server.refused(), server.tallies().len()), (1, 0));
    }

    #[tokio::test]
    async fn a_hanging_server_accepts_nothing_from_a_client_that_went() {
        let server = MailServer::start().await.unwrap();
        server.behave(Behaviour::Hang);
        let gone = send(&server, "<1@x>").await;
        let mut stayed = send(&server, "<2@x>").await;
        eventually("both wait", PATIENCE, async || (server.waiting() == 2).then_some(())).await;
        drop(gone);
        eventually("one client disconnected", PATIENCE, async || {
            (server.abandoned() == 1).then_some(())
        })
        .await;
        server.behave(Behaviour::Accept);
        assert!(answer(&mut stayed).await.starts_with("250"));
        assert_eq!(server.tallies().into_keys().collect::<Vec<_>>(), ["<2@x>"]);
    }

    #[tokio::test]
    async fn an_answer_that_is_withheld_leaves_the_acceptance_unconfirmed() {
        let server = MailServer::start().await.unwrap();
        server.behave(Behaviour::AcceptAndHang);
        let client = send(&server, "<1@x>").await;
        eventually("it waits", PATIENCE, async || (server.waiting() == 1).then_some(())).await;
        drop(client);
        eventually("it disconnected", PATIENCE, async || (server.abandoned() == 1).then_some(()))
            .await;
        assert_eq!(server.tallies()["<1@x>"], Tally { accepted: 1, confirmed: 0 });
    }
}
