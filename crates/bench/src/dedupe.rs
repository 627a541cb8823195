//! Measures the consumer, which looks each event up in the inbox, with 10 million rows there and
//! with none.

use consumer::Options;
use sqlx::PgPool;

use crate::consumer::{InsertEffect, Stage};
use crate::report::{Report, Round, Row};
use crate::servers::Bench;
use crate::{Fallible, Size};

/// Number of events of a round.
pub(crate) const EVENTS: usize = 20_000;
const ROWS: usize = 10_000_000;

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let full = Stage::new(bench, "dedupe_full", size.of(EVENTS)).await?;
    let empty = Stage::new(bench, "dedupe_empty", size.of(EVENTS)).await?;
    fill(full.pool(), i64::try_from(size.of(ROWS))?).await?;
    fill(empty.pool(), 0).await?;
    bench.settle().await?;
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let mut rates = [0.0; 2];
        for (rate, stage) in rates.iter_mut().zip([&full, &empty]) {
            *rate = new_events(stage, round).await?;
        }
        let [ours, theirs] = rates;
        let summary = format!("{ours:.0} events/s, with an empty inbox {theirs:.0}");
        report.round("dedupe", round, size.rounds, &summary);
        rounds.push(Round { ours, theirs });
    }
    Ok(vec![Row::rate("dedupe, 10 million rows, over none", "events/s", 0.85, rounds)])
}

/// Returns the rate of events that are new in a round, in batches.
pub(crate) async fn new_events(stage: &Stage, round: u32) -> Fallible<f64> {
    // The inbox rows belong to one group, so each round continues at its committed offsets.
    if round > 1 {
        stage.publish().await?;
    }
    let options = Options { max_batch: 500, ..Options::default() };
    stage.ours_resumed(options, InsertEffect).await
}

/// Writes inbox rows with random ids. Creates the indexes afterwards, which takes a tenth of the
/// time.
pub(crate) async fn fill(pool: &PgPool, rows: i64) -> Fallible<()> {
    let mut tx = pool.begin().await?;
    sqlx::raw_sql(
        "alter table inbox drop constraint inbox_pkey;
         drop index inbox_by_subscription_and_age",
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into inbox (subscription, source, event_id, outcome, received_at)
         select 'ours', '/order', gen_random_uuid(), 'processed', now() - random() * interval '7 days'
         from generate_series(1, $1)",
    )
    .bind(rows)
    .execute(&mut *tx)
    .await?;
    sqlx::raw_sql(
        "alter table inbox add primary key (subscription, source, event_id);
         create index inbox_by_subscription_and_age on inbox (subscription, received_at)",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    sqlx::raw_sql("vacuum analyze inbox").execute(pool).await?;
    Ok(())
}
