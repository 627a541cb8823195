//! Measures the relay by the number of rows in the outbox, until it is empty.

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
    let mut measured = Vec::new();
    for rows in [FEW, 100_000, 1_000_000].map(|rows| size.of(rows)) {
        measured.push((u32::try_from(rows)?, Vec::new()));
    }
    for round in 1..=size.rounds {
        for (rows, rates) in &mut measured {
            let name = format!("growth_outbox_{rows}_{round}");
            let stage = Stage::of(bench, &name, size.of(FEW), 6).await?;
            let rate = stage.relay_times(usize::try_from(*rows)? / size.of(FEW)).await?;
            progress(&format!("{round}/{}: {rows} rows: {rate:.0} rows/s", size.rounds));
            rates.push(rate);
        }
    }
    Ok(vec![Curve::new("rows in the outbox", "rows/s", measured)])
}
