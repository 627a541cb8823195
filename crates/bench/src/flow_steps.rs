//! Measures the cost of flow steps by comparing `FLOW_STEPS=on` with `off`, and the part of lost
//! steps.

use std::time::{Duration, Instant};

use events::ORDER_COMPLETED;
use playground::Instance;
use sqlx::PgPool;
use tokio::time::sleep;

use crate::orders::{self, Http, Variant};
use crate::report::{Report, Round, Row, count};
use crate::servers::{self, Bench};
use crate::{Fallible, Size, flow, load};

const ON: Variant = Variant { program: "order", settings: &[("FLOW_STEPS", "on")] };
const OFF: Variant = Variant { program: "order", settings: &[("FLOW_STEPS", "off")] };
/// Number of events of a backlog.
const BACKLOG: usize = 20_000;
/// Number of partitions of a backlog.
const PARTITIONS: i32 = 8;
const STEADY: u32 = 1_000;
const STEADY_SECONDS: u64 = 10;
/// Part of the steady rate that must be reached. With fewer orders the row says nothing, and is
/// missed.
const LEAST_OF_STEADY: f64 = 0.95;
/// Time limit of one side.
const LIMIT: Duration = Duration::from_mins(2);
/// Wait before steps are counted: longer than the delay of their writing.
const WRITTEN: Duration = Duration::from_secs(2);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let backlog = backlogs(bench, size, report).await?;
    let mut on_over_off = Vec::new();
    for round in 1..=size.rounds {
        let (ours, theirs) = (("steps_orders_on", &ON), ("steps_orders_off", &OFF));
        let (rates, on) = orders::compare(bench, size, round, ours, theirs).await?;
        let (recorded, lost) = step_counts(&on.service).await;
        on.stop().await;
        let summary = format!(
            "{:.0} orders/s, off {:.0}; {recorded:.0} steps written, {lost:.0} lost",
            rates.ours, rates.theirs
        );
        report.round("flow steps, orders", round, size.rounds, &summary);
        on_over_off.push(rates);
    }
    let on = Http::start_variant(bench, "steps_kept", &ON).await?;
    on.run(1).await?; // The first requests connect and prepare.
    let kept = kept_steps(on, size, report).await?;
    Ok(vec![
        Row::rate("orders, flow steps on, over off", "orders/s", 0.9, on_over_off),
        Row::rate("backlog of billing, flow steps on, over off", "events/s", 0.9, backlog),
        Row::rate("steps kept, 1,000 orders/s", "%", 0.99, kept),
    ])
}

/// Measures the part of the steps that is written while orders arrive at a steady rate, in percent.
async fn kept_steps(on: Http<'_>, size: Size, report: &Report) -> Fallible<Vec<Round>> {
    let mut kept = Vec::new();
    for round in 1..=size.rounds {
        sleep(WRITTEN).await;
        let before = step_counts(&on.service).await;
        let began = Instant::now();
        let placed = flow::place_at(on.service.http, STEADY, size.seconds(STEADY_SECONDS)).await?;
        let reached = count(placed) / began.elapsed().as_secs_f64();
        sleep(WRITTEN).await;
        let after = step_counts(&on.service).await;
        let (recorded, lost) = (after.0 - before.0, after.1 - before.1);
        if recorded < 1.0 {
            return Err("no step was counted".into());
        }
        let is_steady = reached >= LEAST_OF_STEADY * f64::from(STEADY);
        let ours = if is_steady { 100.0 * recorded / (recorded + lost) } else { f64::NAN };
        let summary =
            format!("{ours:.2} % of {:.0} steps kept, at {reached:.0} orders/s", recorded + lost);
        report.round("flow steps kept", round, size.rounds, &summary);
        kept.push(Round { ours, theirs: 100.0 });
    }
    on.stop().await;
    Ok(kept)
}

/// Returns the numbers of written and of lost steps since the start of the service.
async fn step_counts(service: &Instance) -> (f64, f64) {
    let recorded = service.metric("flow_steps_recorded_total", "").await;
    (recorded, service.metric("flow_steps_lost_total", "").await)
}

/// Measures how fast billing invoices a backlog of completed orders.
async fn backlogs(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Round>> {
    let events = size.of(BACKLOG);
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let sides = if round % 2 == 0 { ["on", "off"] } else { ["off", "on"] };
        let mut rates = [0.0; 2];
        for side in sides {
            let rate = backlog(bench, &format!("steps_{side}_{round}"), side, events).await?;
            rates[usize::from(side == "off")] = rate;
        }
        let [ours, theirs] = rates;
        let summary = format!("{ours:.0} events/s, off {theirs:.0}");
        report.round("flow steps, backlog", round, size.rounds, &summary);
        rounds.push(Round { ours, theirs });
    }
    Ok(rounds)
}

/// Returns billing's rate in events per second. Each `name` has topics and a database of its own.
async fn backlog(bench: &Bench, name: &str, flow_steps: &str, events: usize) -> Fallible<f64> {
    let prefix = format!("{name}-");
    let settings = bench.settings(&prefix);
    load::topic(&settings, ORDER_COMPLETED.partitions(PARTITIONS)).await?;
    load::publish(&settings, events).await?;

    let url = bench.database(name).await?;
    let pool = servers::pool(&url).await?;
    let steps = [("FLOW_STEPS", flow_steps)];
    let mut billing = bench.service_with("billing", &url, &prefix, &steps).await?;
    let rate = invoiced(&pool, events).await;
    billing.terminate().await;
    rate
}

/// Waits for all invoices. Returns the events per second since the first invoice, by the database's
/// clock, so that joining the group is not measured.
async fn invoiced(pool: &PgPool, events: usize) -> Fallible<f64> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (invoices, seconds): (i64, Option<f64>) = sqlx::query_as(
            "select count(*), extract(epoch from max(issued_at) - min(issued_at))::float8 from invoices",
        )
        .fetch_one(pool)
        .await?;
        match seconds {
            Some(seconds) if usize::try_from(invoices)? == events => {
                return Ok(count(events) / seconds);
            }
            _ if Instant::now() > deadline => {
                return Err(format!("{invoices} invoices of {events} orders").into());
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}
