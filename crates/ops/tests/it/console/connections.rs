//! Clients that keep connections open without requests.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::serve::Serve;
use crate::fake::{Fake, Known};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn serve() -> (Fake, Serve) {
    let fake = Fake::start(Known::default()).await;
    let serve = Serve::of(&fake).await;
    (fake, serve)
}

/// Returns how long the server takes to close a connection, on which one byte of a header is sent
/// every second.
async fn closed_after(mut stream: TcpStream, says_something: bool) -> Duration {
    let start = Instant::now();
    let mut byte = [0; 1];
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            read = stream.read(&mut byte) => match read {
                Ok(0) | Err(_) => return start.elapsed(),
                Ok(_) => {}
            },
            _ = ticks.tick(), if says_something => {
                let _ = stream.write_all(b"x").await;
            }
        }
    }
}

#[tokio::test]
async fn a_first_request_has_ten_seconds_and_a_connection_that_has_had_one_may_be_idle_for_longer()
{
    let (_fake, serve) = serve().await;
    let connect = || async { TcpStream::connect(serve.address()).await.unwrap() };
    let (silent, mut slow, mut idle) = tokio::join!(connect(), connect(), connect());
    slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    idle.write_all(HEALTH).await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let (silent, slow, idle) = tokio::join!(
        closed_after(silent, false),
        closed_after(slow, true),
        tokio::time::timeout(Duration::from_secs(14), closed_after(idle, false)),
    );
    for took in [silent, slow] {
        assert!((8..14).contains(&took.as_secs()), "{took:?}");
    }
    assert!(idle.is_err(), "the idle one was closed after {idle:?}");
}

#[tokio::test]
async fn more_clients_than_there_are_places_wait_and_are_answered() {
    let (_fake, serve) = serve().await;
    let mut silent = Vec::new();
    for _ in 0..900 {
        silent.push(TcpStream::connect(serve.address()).await.unwrap());
    }
    let mut operator = serve.operator();
    let answer = tokio::time::timeout(Duration::from_secs(25), operator.get("/healthz"));
    assert_eq!(answer.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn what_no_browser_sends_is_refused_and_the_server_goes_on() {
    let (_fake, serve) = serve().await;
    let long = "a".repeat(200_000);
    let address = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let header = |line: &str| format!("GET / HTTP/1.1\r\nhost: localhost\r\n{line}\r\n\r\n");
    let sign_in = |form: &str| {
        let content = "content-type: application/x-www-form-urlencoded\r\ncontent-length";
        let head = "POST /sign-in HTTP/1.1\r\nhost: localhost";
        format!("{head}\r\n{content}: {}\r\n\r\n{form}", form.len())
    };
    for (request, status) in [
        (address(&format!("/flow?q={long}")), "431"),
        (header(&format!("cookie: {long}")), "431"),
        (header(&"a: b\r\n".repeat(200)), "431"),
        (header("a b: c"), "400"),
        (address("/assets/../../../etc/passwd"), "404"),
        (address("/assets/..%2f..%2f..%2fetc/passwd"), "404"),
        (address("/assets/x/%2e%2e%2fconsole.js"), "404"),
        (address("/failures/letters/billing/..%2f..%2fjobs"), "400"),
        (address("/flow?q=%00%0d%0aset-cookie:%20a=b"), "400"),
        (address("/sign-in?back=%0d%0aset-cookie:%20a=b"), "200"),
        (sign_in(&format!("token={}", &long[..8_000])), "403"),
        (sign_in(&format!("token={}", &long[..100_000])), "413"),
        (sign_in(&"a&".repeat(4_000)), "413"),
        ("\0\0\0\0\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(serve.address()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        let shown: String = request.chars().take(80).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer}");
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        assert!(!head.contains("set-cookie"), "{shown:?}: {head}");
    }
    assert_eq!(serve.operator().get("/healthz").await.status, 200);
}
