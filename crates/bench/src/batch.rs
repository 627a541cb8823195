//! Many messages in one transaction beside one by one, with the same handler.

use consumer::{Failure, Handler, Options, Received};
use events::OrderCompleted;
use sqlx::PgConnection;

use crate::consumer::{Stage, insert};
use crate::report::{Report, Round, Row};
use crate::servers::Bench;
use crate::{Outcome, Size};

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Outcome<Vec<Row>> {
    let stage = Stage::new(bench, "batch", size.of(20_000)).await?;
    let (many, one) = (
        Options { max_batch: 500, ..Options::default() },
        Options { max_batch: 1, ..Options::default() },
    );
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let ours = stage.ours(2 * round, many.clone(), InsertEffects).await?;
        let theirs = stage.ours(2 * round + 1, one.clone(), InsertEffects).await?;
        let said = format!("{ours:.0} events/s, one by one {theirs:.0}");
        report.round("batch", round, size.rounds, &said);
        rounds.push(Round { ours, theirs });
    }
    Ok(vec![Row::rate("batch of 500, over one by one", "events/s", 5.0, rounds)])
}

/// The handler: one insert, for one event or for many.
struct InsertEffects;

impl Handler for InsertEffects {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<OrderCompleted>,
    ) -> Result<(), Failure> {
        Ok(insert(tx, &event.data).await?)
    }

    async fn handle_batch(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        let ids: Vec<_> = events.iter().map(|event| event.data.order.order_id.0).collect();
        let totals: Vec<_> = events.iter().map(|event| event.data.order.total).collect();
        sqlx::query(
            "insert into effects (order_id, total) select * from unnest($1::uuid[], $2::bigint[])",
        )
        .bind(ids)
        .bind(totals)
        .execute(tx)
        .await?;
        Ok(())
    }
}
