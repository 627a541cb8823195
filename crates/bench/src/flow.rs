//! Measures the time from an order's response to its invoice, with the real services, at a steady
//! rate.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until};
use uuid::Uuid;

use crate::client::{Client, order_request};
use crate::report::{Report, Round, Row, Target, aiming_at, quantile};
use crate::servers::{self, Bench};
use crate::{Fallible, Size};

const ORDERS_PER_SECOND: u32 = 100;
/// Number of connections, which take turns, so that a slow response delays no other order.
const CONNECTIONS: u32 = 10;
const SECONDS: u64 = 10;
const WARM_UP: u64 = 2;
/// Bounds in milliseconds, and what they aim at.
const BOUND_P50: f64 = 4.0;
const AIM_P50: f64 = 2.0;
const BOUND_P99: f64 = 10.0;
const AIM_P99: f64 = 6.0;
/// Time limit of the invoices. The first one waits until billing has joined its group.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let (orders, invoices) = (bench.database("flow_order").await?, bench.database("flow_billing"));
    let invoices = invoices.await?;
    let mut order = bench.service("order", &orders, "flow-").await?;
    let mut billing = bench.service("billing", &invoices, "flow-").await?;
    let pool = servers::pool(&invoices).await?;
    place(order.http, WARM_UP).await?.invoiced(&pool).await?;

    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let orders = place(order.http, size.seconds(SECONDS)).await?;
        let waits = orders.invoiced(&pool).await?;
        let ours = [0.5, 0.99].map(|part| quantile(waits.clone(), part));
        let summary =
            format!("p50 {:.1} ms, p99 {:.1} ms, {} orders", ours[0], ours[1], waits.len());
        report.round("flow", round, size.rounds, &summary);
        p50.push(Round { ours: ours[0], theirs: BOUND_P50 });
        p99.push(Round { ours: ours[1], theirs: BOUND_P99 });
    }
    billing.terminate().await;
    order.terminate().await;
    Ok(vec![
        Row::less(
            "order -> invoice p50, 100 orders/s",
            "ms",
            aiming_at(1.0, BOUND_P50 / AIM_P50),
            p50,
        ),
        Row::less("order -> invoice p99, 100 orders/s", "ms", p99_target(), p99),
    ])
}

fn p99_target() -> Target {
    aiming_at(1.0, BOUND_P99 / AIM_P99)
}

/// Measures the same with a second consumer running, then stopped.
pub(crate) async fn with_one_dead(
    bench: &Bench,
    size: Size,
    report: &Report,
) -> Fallible<Vec<Row>> {
    let (orders, invoices) = (bench.database("dead_order").await?, bench.database("dead_billing"));
    let (invoices, numbers) = (invoices.await?, bench.database("dead_analytics").await?);
    let mut order = bench.service("order", &orders, "dead-").await?;
    let mut billing = bench.service("billing", &invoices, "dead-").await?;
    let pool = servers::pool(&invoices).await?;
    let p99 = async |seconds| {
        let waits = place(order.http, seconds).await?.invoiced(&pool).await?;
        Fallible::Ok(quantile(waits, 0.99))
    };
    p99(WARM_UP).await?;
    let statistics = servers::pool(&numbers).await?;
    let (mut dead_over_alive, mut all_alive) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let dead = p99(size.seconds(SECONDS)).await?;
        let mut analytics = bench.service("analytics", &numbers, "dead-").await?;
        caught_up(&statistics, &pool).await?;
        p99(WARM_UP).await?;
        let alive = p99(size.seconds(SECONDS)).await?;
        analytics.kill_9().await;
        let summary = format!("p99 {dead:.1} ms with analytics dead, {alive:.1} ms with it alive");
        report.round("dead consumer", round, size.rounds, &summary);
        dead_over_alive.push(Round { ours: dead, theirs: alive });
        all_alive.push(Round { ours: alive, theirs: BOUND_P99 });
    }
    billing.terminate().await;
    order.terminate().await;
    Ok(vec![
        Row::less("order -> invoice p99, every consumer alive", "ms", p99_target(), all_alive),
        // The target allows a tenth more.
        Row::less("p99 with one consumer dead, over alive", "ms", 0.91, dead_over_alive),
    ])
}

/// Waits until every subscription of analytics has seen each invoiced order. It was killed, so it
/// did not leave its groups, and a new instance gets no partitions until its session has expired.
async fn caught_up(statistics: &PgPool, invoices: &PgPool) -> Fallible<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let issued: i64 =
            sqlx::query_scalar("select count(*) from invoices").fetch_one(invoices).await?;
        let seen: i64 = sqlx::query_scalar(
            "select least((select count(completed_at) from orders),
                          (select count(distinct order_id) from basket),
                          (select count(*) from history where event_type = 'invoice.issued'))",
        )
        .fetch_one(statistics)
        .await?;
        if seen == issued {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("analytics has seen {seen} of {issued} orders").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Times of the responses, by order id.
struct Orders(HashMap<Uuid, SystemTime>);

#[derive(Deserialize)]
struct Placed {
    id: Uuid,
}

/// Places orders at a steady rate, which may exceed the capacity of the service. Returns their
/// number.
pub(crate) async fn place_at(port: u16, rate: u32, seconds: u64) -> Fallible<usize> {
    // 32 connections reach 1,000 orders/s if a response takes 32 ms.
    Ok(place_over(port, rate, 32, seconds).await?.0.len())
}

/// Places orders at a steady rate.
async fn place(port: u16, seconds: u64) -> Fallible<Orders> {
    place_over(port, ORDERS_PER_SECOND, CONNECTIONS, seconds).await
}

async fn place_over(port: u16, rate: u32, connections: u32, seconds: u64) -> Fallible<Orders> {
    let step = Duration::from_secs(1) / rate;
    let begin = TokioInstant::now() + step;
    let each = u32::try_from(seconds)? * rate / connections;
    let mut placing = JoinSet::new();
    for connection in 0..connections {
        placing.spawn(async move {
            let mut client = Client::connect(port).await?;
            let request = order_request();
            let mut placed = Vec::new();
            for turn in 0..each {
                sleep_until(begin + step * (turn * connections + connection)).await;
                let (status, body) = client.send(&request).await?;
                let at = SystemTime::now();
                if status != 201 {
                    return Err(format!("status {status}").into());
                }
                placed.push((serde_json::from_slice::<Placed>(&body)?.id, at));
            }
            Fallible::Ok(placed)
        });
    }
    let mut orders = HashMap::new();
    while let Some(placed) = placing.join_next().await {
        orders.extend(placed??);
    }
    Ok(Orders(orders))
}

impl Orders {
    /// Waits for all invoices. Returns the milliseconds from each order's response to the
    /// `issued_at` of its invoice.
    async fn invoiced(&self, pool: &PgPool) -> Fallible<Vec<f64>> {
        let ids: Vec<Uuid> = self.0.keys().copied().collect();
        let deadline = Instant::now() + LIMIT;
        loop {
            sleep(Duration::from_millis(200)).await;
            let issued: Vec<(Uuid, OffsetDateTime)> =
                sqlx::query_as("select order_id, issued_at from invoices where order_id = any($1)")
                    .bind(&ids)
                    .fetch_all(pool)
                    .await?;
            if issued.len() == ids.len() {
                let wait = |(id, at): &(Uuid, OffsetDateTime)| {
                    let response = OffsetDateTime::from(self.0[id]);
                    (*at - response).as_seconds_f64() * 1000.0
                };
                return Ok(issued.iter().map(wait).collect());
            }
            if Instant::now() > deadline {
                return Err(format!("{} invoices of {} orders", issued.len(), ids.len()).into());
            }
        }
    }
}
