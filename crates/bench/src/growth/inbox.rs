//! Measures the consumer by the number of inbox rows of its subscription. Their ids are random.

use super::Curve;
use crate::consumer::Stage;
use crate::dedupe::{EVENTS, fill, new_events};
use crate::servers::Bench;
use crate::{Fallible, Size};

pub(super) async fn measure(
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    let mut measured = Vec::new();
    for rows in [0, size.of(1_000_000), size.of(10_000_000)] {
        let stage = Stage::new(bench, &format!("growth_inbox_{rows}"), size.of(EVENTS)).await?;
        progress(&format!("writing {rows} rows"));
        fill(stage.pool(), i64::try_from(rows)?).await?;
        measured.push((u32::try_from(rows)?, stage, Vec::new()));
    }
    for round in 1..=size.rounds {
        for (rows, stage, rates) in &mut measured {
            let rate = new_events(stage, round).await?;
            progress(&format!("{round}/{}: {rows} rows: {rate:.0} events/s", size.rounds));
            rates.push(rate);
        }
    }
    let measured = measured.into_iter().map(|(rows, _, rates)| (rows, rates)).collect();
    Ok(vec![Curve::new("rows in the inbox", "events/s", measured)])
}
