//! Memory of requests and responses under way: slow readers and half-sent bodies can't fill the
//! process.

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{House, read};

const MIB: usize = 1024 * 1024;
const TENANTS: &str = "demo-acme=acme,demo-globex=globex,demo-initech=initech";

/// Repeats a request until the response has this status.
async fn until(house: &House, key: &str, path: &str, status: u16) -> Response {
    let began = Instant::now();
    loop {
        let answer = house.anonymous(Method::GET, path).bearer_auth(key).send().await.unwrap();
        if answer.status() == status {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{}", answer.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a response of [`House::unread_labels`] to its end.
async fn read_all(mut stream: TcpStream, bytes: usize) {
    let mut received = Vec::new();
    let mut some = vec![0; 64 * 1024];
    while received.len() < bytes || !received.ends_with(b"\"") {
        let count = stream.read(&mut some).await.unwrap();
        assert!(count > 0, "closed after {} bytes", received.len());
        received.extend_from_slice(&some[..count]);
    }
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_response_is_read() {
    let house = House::with(|config| config.limiting_tenants(0, 1)).await;
    let slow = house.unread_labels("demo-acme", 4 * MIB).await;
    let refused = until(&house, "demo-acme", "/labels/9", 429).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(read(refused, 429).await["detail"].as_str().unwrap().contains("1 requests in flight"));
    // The place is still occupied, although the handler ended long ago.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let again = house.acme(Method::GET, "/labels/9").send().await.unwrap();
    assert_eq!(again.status(), 429);
    until(&house, "demo-globex", "/labels/9", 200).await;
    read_all(slow, 4 * MIB).await;
    until(&house, "demo-acme", "/labels/9", 200).await;
}

#[tokio::test]
async fn two_tenants_that_read_slowly_leave_room_for_a_third() {
    let configure =
        |config: chassis::Config| config.tenants(TENANTS).http_memory_bytes(16 * 1024 * 1024);
    let house = House::with(configure).await;
    let mut slow = Vec::new();
    for key in ["demo-acme", "demo-globex"] {
        for _ in 0..8 {
            slow.push(house.unread_labels(key, 4 * MIB).await);
        }
        let large = format!("/labels/{}", 4 * MIB);
        let refused = until(&house, key, &large, 503).await;
        assert_eq!(refused.headers()["retry-after"], "5");
        let problem = read(refused, 503).await;
        assert!(problem["detail"].as_str().unwrap().contains("is used up"), "{problem}");
    }
    let large = format!("/labels/{}", 4 * MIB);
    let third = house.anonymous(Method::GET, &large).bearer_auth("demo-initech");
    let third = third.send().await.unwrap();
    assert_eq!(third.status(), 200);
    assert_eq!(third.text().await.unwrap().len(), 4 * MIB);
    // A closed connection releases its share.
    drop(slow);
    until(&house, "demo-acme", &large, 200).await;
}

#[tokio::test]
async fn bodies_that_are_being_received_have_a_budget() {
    let house = House::with(|config| config.http_memory_bytes(1024 * 1024)).await;
    let half_sent = async |bytes: usize| {
        let head = format!(
            "POST /parcels HTTP/1.1\r\nhost: p\r\nauthorization: Bearer demo-acme\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            bytes + 1
        );
        let mut stream = house.raw(&head).await;
        stream.write_all(&b" ".repeat(bytes)).await.unwrap();
        stream
    };
    // Bodies may take half a MiB, and those of one tenant a fourth of it if it sends more than one.
    let kept = half_sent(200_000).await;
    let mut refused = half_sent(200_000).await;
    let mut answer = String::new();
    let reading = async {
        while !answer.ends_with('}') {
            let mut some = [0; 1024];
            let count = refused.read(&mut some).await.unwrap();
            assert!(count > 0, "closed after {answer:?}");
            answer.push_str(std::str::from_utf8(&some[..count]).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.expect("it is refused at once");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    // Bodies of other tenants, and small ones, are accepted.
    for key in ["demo-globex", "demo-acme"] {
        let small = house.anonymous(Method::POST, "/parcels").bearer_auth(key);
        assert_eq!(small.json(&json!({ "weight": 1 })).send().await.unwrap().status(), 201);
    }
    drop(kept);
    let began = Instant::now();
    let large = || {
        let body = format!("{}{{\"weight\":2}}", " ".repeat(200_000));
        house.acme(Method::POST, "/parcels").header("content-type", "application/json").body(body)
    };
    while large().send().await.unwrap().status() != 201 {
        assert!(began.elapsed() < Duration::from_secs(5), "its bytes are given back");
    }
}
