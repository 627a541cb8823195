//! Measures the relay by the number of rows in the outbox, until it is empty, and by the number of
//! rows that wait for a topic that does not exist.

use super::Curve;
use crate::relay::Stage;
use crate::servers::Bench;
use crate::{Fallible, Size};

/// The smallest number of rows: that of the row `relay`.
const FEW: usize = 20_000;

pub(super) async fn measure(
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    let waiting = [0, 100_000, 1_000_000].map(|rows| size.of(rows));
    let rows = [FEW, 100_000, 1_000_000].map(|rows| size.of(rows));
    let (mut drained, mut beside) = (rows.map(start), waiting.map(start));
    for round in 1..=size.rounds {
        for (rows, rates) in &mut drained {
            let stage = stage(bench, &format!("growth_outbox_{rows}_{round}"), size).await?;
            let rate = stage.relay_times(*rows / size.of(FEW), 0).await?;
            progress(&format!("{round}/{}: {rows} rows: {rate:.0} rows/s", size.rounds));
            rates.push(rate);
        }
        for (waiting, rates) in &mut beside {
            let stage = stage(bench, &format!("growth_waiting_{waiting}_{round}"), size).await?;
            let rate = stage.relay_times(1, *waiting).await?;
            progress(&format!("{round}/{}: {waiting} wait: {rate:.0} rows/s", size.rounds));
            rates.push(rate);
        }
    }
    Ok(vec![
        Curve::new("rows in the outbox", "rows/s", sized(drained)?),
        Curve::new("rows that wait for another topic", "rows/s", sized(beside)?),
    ])
}

fn start(rows: usize) -> (usize, Vec<f64>) {
    (rows, Vec::new())
}

fn sized(measured: [(usize, Vec<f64>); 3]) -> Fallible<Vec<(u32, Vec<f64>)>> {
    measured.into_iter().map(|(rows, rates)| Ok((u32::try_from(rows)?, rates))).collect()
}

async fn stage(bench: &Bench, name: &str, size: Size) -> Fallible<Stage> {
    Stage::of(bench, name, size.of(FEW), 6).await
}
