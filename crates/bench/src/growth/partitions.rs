//! Measures the consumer, the relay and a bare producer by the number of a topic's partitions.

use consumer::Options;

use super::Curve;
use crate::consumer::{InsertEffect, Stage};
use crate::relay;
use crate::servers::Bench;
use crate::{Fallible, Size};

const EVENTS: usize = 20_000;
const PARTITIONS: [u32; 3] = [4, 24, 96];

pub(super) async fn measure(
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    let events = size.of(EVENTS);
    let mut stages = Vec::new();
    for partitions in PARTITIONS {
        let (name, in_topic) =
            (format!("growth_partitions_{partitions}"), i32::try_from(partitions)?);
        let consumed = Stage::of(bench, &name, events, in_topic).await?;
        let published = relay::Stage::of(bench, &format!("{name}_relay"), events, in_topic).await?;
        // The broker creates a partition's log for its first record.
        published.produce().await?;
        stages.push((partitions, consumed, published));
    }
    let options = Options { max_batch: 500, ..Options::default() };
    let [mut consumed, mut published, mut produced] =
        [(); 3].map(|()| PARTITIONS.map(|it| (it, Vec::new())));
    for round in 1..=size.rounds {
        for (at, (partitions, consumer, relay)) in stages.iter().enumerate() {
            let events = consumer.ours(round, options.clone(), InsertEffect).await?;
            let rows = relay.relay().await?;
            let bare = relay.produce().await?;
            let summary = format!(
                "{partitions}: consumer {events:.0} events/s, relay {rows:.0} rows/s, bare producer {bare:.0} records/s"
            );
            progress(&format!("{round}/{}: {summary}", size.rounds));
            consumed[at].1.push(events);
            published[at].1.push(rows);
            produced[at].1.push(bare);
        }
    }
    Ok(vec![
        Curve::new("partitions, consumer", "events/s", consumed.into()),
        Curve::new("partitions, relay", "rows/s", published.into()),
        Curve::new("partitions, bare producer", "records/s", produced.into()),
    ])
}
