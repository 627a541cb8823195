//! Measures how much earlier a response is with deferred work, and the cost of deferring.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use defer::{Defer, DeferLayer, Deferrer, Options};
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::client::Client;
use crate::report::{NO_TARGET, Report, Round, Row, aiming_at, quantile};
use crate::{Fallible, Size};

/// Duration of the work before the response.
const CORE: Duration = Duration::from_millis(80);
/// Duration of the work that can be deferred.
const AFTER: Duration = Duration::from_millis(1_120);
/// Number of concurrent requests of a round with [`CORE`] and [`AFTER`].
const WAITING: usize = 16;
/// Number of requests of a round without work.
const IDLE: usize = 8_000;
/// Number of connections of these requests.
const CONNECTIONS: usize = 8;

pub(crate) async fn measure(size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let (port, serving) = serve().await?;
    let (mut responses, mut costs) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let ours = quantile(ask(port, "/deferred", WAITING, 1).await?, 0.5);
        let theirs = quantile(ask(port, "/sync", WAITING, 1).await?, 0.5);
        responses.push(Round { ours, theirs });
        let each = size.of(IDLE) / CONNECTIONS;
        let four = quantile(ask(port, "/four", CONNECTIONS, each).await?, 0.99);
        let none = quantile(ask(port, "/none", CONNECTIONS, each).await?, 0.99);
        costs.push(Round { ours: four, theirs: none });
        let summary = format!(
            "{ours:.0} ms, {theirs:.0} ms in line; p99 {four:.2} ms with four tasks, {none:.2} ms with none"
        );
        report.round("deferred", round, size.rounds, &summary);
    }
    serving.abort();
    Ok(vec![
        Row::less(
            "response with work deferred, over in line",
            "ms",
            aiming_at(12.0, 14.5),
            responses,
        ),
        Row::less("p99 with 4 deferred tasks, over none", "ms", NO_TARGET, costs),
    ])
}

async fn serve() -> Fallible<(u16, JoinHandle<()>)> {
    // The limit of a service is too low for the deferred tasks of a round.
    let options = Options { max_running: 4 * IDLE, ..Options::default() };
    let deferrer = Deferrer::new(options, &Metrics::new("bench").meter("defer"));
    let routes = Router::new()
        .route(
            "/sync",
            get(async || {
                sleep(CORE).await;
                sleep(AFTER).await;
            }),
        )
        .route(
            "/deferred",
            get(async |defer: Defer| {
                sleep(CORE).await;
                defer.run("after", sleep(AFTER));
            }),
        )
        .route("/none", get(async || {}))
        .route(
            "/four",
            get(async |defer: Defer| {
                for label in ["one", "two", "three", "four"] {
                    defer.run(label, tokio::task::yield_now());
                }
            }),
        )
        .layer(DeferLayer::new(deferrer));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let serving = tokio::spawn(async move {
        // Serving ends by the abort of the task.
        let _ = axum::serve(listener, routes).await;
    });
    Ok((port, serving))
}

/// Returns the duration of each response in milliseconds.
async fn ask(port: u16, path: &str, connections: usize, each: usize) -> Fallible<Vec<f64>> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let mut asking = JoinSet::new();
    for _ in 0..connections {
        let request = request.clone();
        asking.spawn(async move {
            let mut client = Client::connect(port).await?;
            let mut times = Vec::with_capacity(each);
            for _ in 0..each {
                let asked = Instant::now();
                let (status, _) = client.send(request.as_bytes()).await?;
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
                if status != 200 {
                    return Err(format!("status {status}").into());
                }
            }
            Fallible::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = asking.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}
