//! Deferred work in an axum application: the client has its response while the task is still
//! running.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use defer::{Defer, DeferLayer, Deferrer, Options};
use examples::Fallible;
use telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const THIRD_PARTY: Duration = Duration::from_millis(500);

async fn place_order(defer: Defer) -> &'static str {
    defer.run("inventory sync", async {
        tokio::time::sleep(THIRD_PARTY).await; // A slow third party.
        println!("inventory told");
    });
    "placed"
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let deferrer = Deferrer::new(Options::default(), &Metrics::new("shop").meter("defer"));
    let app =
        Router::new().route("/orders", post(place_order)).layer(DeferLayer::new(deferrer.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let asked = Instant::now();
    let mut client = TcpStream::connect(address).await?;
    let request =
        "POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    let answered = asked.elapsed();
    println!("answered: {}", answer.lines().next().unwrap_or_default());

    let drained = deferrer.drain(Duration::from_secs(5)).await;
    if answered >= THIRD_PARTY || drained.dropped > 0 {
        return Err(
            format!("the client waited {answered:?}, {} tasks dropped", drained.dropped).into()
        );
    }
    Ok(())
}
