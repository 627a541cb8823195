//! Measures the time from exec to ready, and the memory of an idle service.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::report::{Report, Round, Row};
use crate::servers::{Bench, memory};
use crate::{Fallible, Size};

/// Bound in milliseconds.
const BOUND_READY: f64 = 100.0;
/// Bound in MB.
const BOUND_IDLE: f64 = 15.0;
/// Idle time before the memory is measured.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let database = bench.database("ready").await?;
    // The first start creates the tables.
    bench.service("order", &database, "ready-").await?.terminate().await;
    let (mut ready, mut idle) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let began = Instant::now();
        let mut order = bench.service("order", &database, "ready-").await?;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        sleep(IDLE).await;
        let memory = memory(&order)?;
        order.terminate().await;
        let summary = format!("ready after {took:.0} ms, idle with {memory:.1} MB");
        report.round("ready", round, size.rounds, &summary);
        ready.push(Round { ours: took, theirs: BOUND_READY });
        idle.push(Round { ours: memory, theirs: BOUND_IDLE });
    }
    Ok(vec![
        Row::less("exec to ready of order", "ms", 1.0, ready),
        Row::less("memory of order, idle", "MB", 1.0, idle),
    ])
}
