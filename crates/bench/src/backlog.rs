//! Measures a backlog of billing: completed orders in Kafka, until the invoice of each is
//! published. Compares it with the row `batch`, whose handler inserts one row and publishes
//! nothing, and with that handler when it also publishes. Also measures billing's peak memory.

use std::time::{Duration, Instant};

use consumer::Options;
use envelope::Event;
use events::{InvoiceIssued, ORDER_COMPLETED};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::consumer::{InsertEffect, Stage};
use crate::report::{NO_TARGET, Report, Round, Row, aiming_at, count};
use crate::servers::{self, Bench, peak_memory};
use crate::{Fallible, Size, load, publishing};

const BACKLOG: usize = 50_000;
/// Number of events of the baseline.
const BATCH: usize = 20_000;
const PARTITIONS: i32 = 8;
/// Time limit of one side.
const LIMIT: Duration = Duration::from_mins(3);
/// Bound of the peak memory in MB: half of a service's container.
const BOUND_MEMORY: f64 = 64.0;

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let stage = Stage::new(bench, "backlog_batch", size.of(BATCH)).await?;
    let options = Options { max_batch: 500, ..Options::default() };
    let (mut rates, mut alone, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let name = format!("backlog_{round}");
        let (ours, peak) = publish(bench, &name, size.of(BACKLOG), 1).await?;
        let theirs = stage.ours(round, options.clone(), InsertEffect).await?;
        let name = format!("backlog_crates_{round}");
        let crates = publishing::rate(bench, &name, size.of(BACKLOG), options.clone()).await?;
        let summary = format!(
            "{ours:.0} events/s, {peak:.0} MB at most; batches {theirs:.0} events/s, published {crates:.0}"
        );
        report.round("backlog", round, size.rounds, &summary);
        rates.push(Round { ours, theirs });
        alone.push(Round { ours, theirs: crates });
        peaks.push(Round { ours: peak, theirs: BOUND_MEMORY });
    }
    Ok(vec![
        Row::rate(
            "billing's backlog, published, over batch",
            "events/s",
            aiming_at(0.6, 0.8),
            rates,
        ),
        Row::rate("billing's backlog, over the crates alone", "events/s", NO_TARGET, alone),
        Row::less("peak memory of billing with that backlog", "MB", 1.0, peaks),
    ])
}

/// Returns the events per second of some instances of billing, until the last `invoice.issued` is
/// published, and the peak memory of the first one in MB. Each `name` has topics and a database of
/// its own.
pub(crate) async fn publish(
    bench: &Bench,
    name: &str,
    events: usize,
    instances: usize,
) -> Fallible<(f64, f64)> {
    let prefix = format!("{name}-");
    let settings = bench.settings(&prefix);
    load::topic(&settings, ORDER_COMPLETED.partitions(PARTITIONS)).await?;
    load::publish(&settings, events).await?;

    let url = bench.database(name).await?;
    let pool = servers::pool(&url).await?;
    let mut billing = Vec::new();
    for _ in 0..instances {
        billing.push(bench.service("billing", &url, &prefix).await?);
    }
    let rate = drained(&pool, events).await;
    let peak = peak_memory(&billing[0])?;
    for instance in &mut billing {
        instance.terminate().await;
    }
    load::expect_records(&settings, InvoiceIssued::TYPE, events)?;
    Ok((rate?, peak))
}

/// Waits until all invoices are issued and the outbox is empty. Returns the events per second since
/// the first invoice, by the database's clock, so that joining the group is not measured.
async fn drained(pool: &PgPool, events: usize) -> Fallible<f64> {
    let deadline = Instant::now() + LIMIT;
    let all = i64::try_from(events)?;
    loop {
        // All invoices belong to one tenant, so its last number is their count. Counting the rows
        // would be measured, too, and so would looking for a row among thousands of deleted ones.
        let seconds: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from clock_timestamp() - (select min(issued_at) from invoices))::float8
             where case when (select last from invoice_counter) = $1 then not exists (select from outbox) end",
        )
        .bind(all)
        .fetch_optional(pool)
        .await?;
        match seconds {
            Some(seconds) => return Ok(count(events) / seconds),
            None if Instant::now() > deadline => return Err("the backlog is not drained".into()),
            None => sleep(Duration::from_millis(20)).await,
        }
    }
}
