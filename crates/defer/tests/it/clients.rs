//! Behaviour of clients: they read the whole response, disconnect early, or reuse connections.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::unbounded_channel;

use crate::house::{Gate, House, PATIENCE, request, send, words};

#[tokio::test]
async fn the_client_has_its_answer_while_the_task_still_waits_for_it() {
    let ((words, mut recorded), (gate, open)) = (words(), Gate::new());
    let house = House::new(move |defer| {
        let (closed, words) = (gate.take(), words.clone());
        defer.run("waits for the client", async move {
            closed.await.unwrap();
            words.record("ran");
        });
        async { "answer".into_response() }
    });
    let house = house.await;
    assert_eq!(house.get().await, (200, "answer".into()));
    open.send(()).unwrap(); // If the response waited for the task, neither would ever end.
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn answers_without_a_body_end_their_requests_too() {
    let (words, mut recorded) = words();
    let house = House::new(move |defer| {
        defer.run("task", words.task("ran"));
        async { StatusCode::NO_CONTENT.into_response() }
    });
    let house = house.await;
    assert_eq!(request(&mut house.connect().await, "GET").await.0, 204);
    assert_eq!(recorded.next().await, "ran");
    assert_eq!(request(&mut house.connect().await, "HEAD").await.0, 204);
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn a_head_request_runs_what_a_get_would() {
    let (words, mut recorded) = words();
    let house = House::new(move |defer| {
        defer.run("task", words.task("ran"));
        async { "a body that HEAD does not send".into_response() }
    });
    let house = house.await;
    assert_eq!(request(&mut house.connect().await, "HEAD").await.0, 200);
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn a_connection_takes_its_next_request_while_tasks_of_the_last_one_run() {
    let ((words, mut recorded), (gate, open)) = (words(), Gate::new());
    let first = std::sync::Mutex::new(Some(gate));
    let house = House::new(move |defer| {
        if let Some(gate) = first.lock().unwrap().take() {
            let (closed, words) = (gate.take(), words.clone());
            defer.run("slow", async move {
                closed.await.unwrap();
                words.record("slow");
            });
        } else {
            defer.run("quick", words.task("quick"));
        }
        async { "answer".into_response() }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    assert_eq!(request(&mut connection, "GET").await.0, 200);
    assert_eq!(request(&mut connection, "GET").await.0, 200);
    assert_eq!(recorded.next().await, "quick");
    open.send(()).unwrap();
    assert_eq!(recorded.next().await, "slow");
}

/// Returns a body that is streamed in pieces, as the test sends them.
fn in_pieces(pieces: tokio::sync::mpsc::UnboundedReceiver<&'static str>) -> Response {
    let stream = futures::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())), pieces))
    });
    Body::from_stream(stream.boxed()).into_response()
}

#[tokio::test]
async fn a_body_that_streams_holds_tasks_until_its_end() {
    let (words, mut recorded) = words();
    let (pieces, to_send) = unbounded_channel();
    let to_send = std::sync::Mutex::new(Some(to_send));
    let house = House::new(move |defer| {
        defer.run("task", words.task("ran"));
        let to_send = to_send.lock().unwrap().take().unwrap();
        async { in_pieces(to_send) }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    send(&mut connection, "GET").await;
    pieces.send("first").unwrap();
    read_until(&mut connection, "first").await;
    assert!(recorded.rest().is_empty(), "the body has not ended");
    pieces.send("last").unwrap();
    read_until(&mut connection, "last").await;
    assert!(recorded.rest().is_empty(), "the body has not ended");
    drop(pieces);
    assert_eq!(recorded.next().await, "ran");
}

async fn read_until(connection: &mut tokio::net::TcpStream, wanted: &str) {
    let (mut read, mut buffer) = (String::new(), [0; 1024]);
    while !read.contains(wanted) {
        let count = tokio::time::timeout(PATIENCE, connection.read(&mut buffer)).await;
        let count = count.unwrap().unwrap();
        assert!(count > 0, "it ended before {wanted}");
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
}

#[tokio::test]
async fn a_client_that_goes_before_the_answer_costs_no_task() {
    let ((words, mut recorded), (gate, open)) = (words(), Gate::new());
    let house = House::new(move |defer| {
        let (closed, words) = (gate.take(), words.clone());
        async move {
            words.record("in the handler");
            closed.await.unwrap();
            // The client has disconnected before this point.
            defer.run("task", words.task("ran"));
            "answer".into_response()
        }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    send(&mut connection, "GET").await;
    assert_eq!(recorded.next().await, "in the handler");
    drop(connection);
    open.send(()).unwrap();
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn a_client_that_goes_within_the_body_costs_no_task() {
    let (words, mut recorded) = words();
    let (pieces, to_send) = unbounded_channel();
    let to_send = std::sync::Mutex::new(Some(to_send));
    let house = House::new(move |defer| {
        defer.run("task", words.task("ran"));
        let to_send = to_send.lock().unwrap().take().unwrap();
        async { in_pieces(to_send) }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    send(&mut connection, "GET").await;
    pieces.send("first").unwrap();
    read_until(&mut connection, "first").await;
    drop(connection);
    // No client reads the response from now on; the server notices that by sending.
    let sending = async {
        while pieces.send("more").is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sending).await.unwrap();
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn it_is_the_same_over_http_2() {
    let ((words, mut recorded), (gate, open)) = (words(), Gate::new());
    let house = House::new(move |defer| {
        let (closed, words) = (gate.take(), words.clone());
        defer.run("waits for the client", async move {
            closed.await.unwrap();
            words.record("ran");
        });
        async { "answer".into_response() }
    });
    let house = house.await;
    let connection = TokioIo::new(house.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), connection);
    let (mut sender, driver) = handshake.await.unwrap();
    tokio::spawn(driver);
    let request = axum::http::Request::get("http://test/").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.version(), axum::http::Version::HTTP_2);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answer");
    open.send(()).unwrap();
    assert_eq!(recorded.next().await, "ran");
}
