//! Compares batches of up to 500 messages per transaction with one message per transaction, with
//! the same handler.

use consumer::Options;

use crate::consumer::{InsertEffect, Stage};
use crate::report::{Report, Round, Row, aiming_at};
use crate::servers::Bench;
use crate::{Fallible, Size};

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let stage = Stage::new(bench, "batch", size.of(20_000)).await?;
    let (many, one) = (
        Options { max_batch: 500, ..Options::default() },
        Options { max_batch: 1, ..Options::default() },
    );
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let ours = stage.ours(2 * round, many.clone(), InsertEffect).await?;
        let theirs = stage.ours(2 * round + 1, one.clone(), InsertEffect).await?;
        let summary = format!("{ours:.0} events/s, one by one {theirs:.0}");
        report.round("batch", round, size.rounds, &summary);
        rounds.push(Round { ours, theirs });
    }
    Ok(vec![Row::rate("batch of 500, over one by one", "events/s", aiming_at(5.0, 10.0), rounds)])
}
