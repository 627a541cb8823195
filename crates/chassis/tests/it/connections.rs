//! Tests of the lifetime of connections, on the public port and on the admin port.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::testing::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::House;

const REQUEST: &[u8] = b"GET /nothing HTTP/1.1\r\nhost: parcels\r\n\r\n";
/// Time limit of a request's headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request and reads its response.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.unwrap();
    let mut read = String::new();
    while !read.ends_with('}') {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.unwrap();
        assert!(count > 0, "closed after {read:?}");
        read.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    assert!(read.starts_with("HTTP/1.1 404"), "{read}");
}

/// Returns how long it takes until the connection is closed.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or_default(), 0);
    began.elapsed()
}

fn ports(house: &House) -> [SocketAddr; 2] {
    [house.running.http, house.running.admin]
}

#[tokio::test]
async fn an_idle_connection_outlives_the_limit_on_headers() {
    let house = House::start().await;
    let idle = ports(&house).map(async |port| {
        let mut stream = TcpStream::connect(port).await.unwrap();
        ask(&mut stream).await;
        tokio::time::sleep(HEAD_TIMEOUT + Duration::from_secs(2)).await;
        ask(&mut stream).await;
    });
    futures::future::join_all(idle).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let house = House::with(|config| config.keeping_alive(Duration::from_secs(1))).await;
    for port in ports(&house) {
        let mut stream = TcpStream::connect(port).await.unwrap();
        ask(&mut stream).await;
        let took = closed_after(&mut stream).await;
        assert!(Duration::from_millis(900) < took && took < Duration::from_secs(8), "{took:?}");
    }
}

#[tokio::test]
async fn who_asks_for_nothing_is_not_kept_as_long_as_who_was_answered() {
    let house = House::start().await;
    let silent = ports(&house).map(async |port| {
        let mut stream = TcpStream::connect(port).await.unwrap();
        let took = closed_after(&mut stream).await;
        let slack = Duration::from_secs(1);
        assert!(took + slack > HEAD_TIMEOUT && took < HEAD_TIMEOUT + slack * 8, "{took:?}");
    });
    futures::future::join_all(silent).await;
}

#[tokio::test]
async fn headers_that_take_too_long_close_the_connection() {
    let house = House::start().await;
    let slow = ports(&house).map(async |port| {
        let mut stream = TcpStream::connect(port).await.unwrap();
        ask(&mut stream).await;
        // The limit counts from the first byte of the request, and not from the previous response.
        tokio::time::sleep(Duration::from_secs(3)).await;
        stream.write_all(&REQUEST[..10]).await.unwrap();
        let took = closed_after(&mut stream).await;
        let slack = Duration::from_secs(1);
        assert!(took + slack > HEAD_TIMEOUT && took < HEAD_TIMEOUT + slack * 8, "{took:?}");
    });
    futures::future::join_all(slow).await;
}

#[tokio::test]
async fn a_service_that_shuts_down_is_not_ready() {
    let house = House::start().await;
    // Its client reads nothing, so that the shutdown waits for it.
    let unread = house.unread_labels("demo-acme", 50_000_000).await;
    unread.readable().await.unwrap();
    let readyz = format!("http://{}/readyz", house.running.admin);
    let asked = async || {
        let response = reqwest::get(&readyz).await.ok()?;
        let is_unready = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let report: Value = response.json().await.ok()?;
        (is_unready && report["stopping"] == true).then_some(())
    };
    let asked = eventually("it to be unready", HEAD_TIMEOUT, asked);
    tokio::join!(house.running.shutdown(), asked);
    drop(unread);
}
