//! Measures several consumers of one topic, each with its own group and database. They share the
//! cores, so the curve shows the cost of a delivery: the rate counts the deliveries of all.

use consumer::{Options, Subscription};

use super::Curve;
use crate::consumer::{InsertEffect, Stage};
use crate::report::count;
use crate::servers::Bench;
use crate::{Fallible, Size};

const EVENTS: usize = 20_000;
/// Names of the groups.
const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

pub(super) async fn measure(
    bench: &Bench,
    size: Size,
    progress: &(impl Fn(&str) + Sync),
) -> Fallible<Vec<Curve>> {
    let events = size.of(EVENTS);
    let stage = Stage::new(bench, "growth_consumers", events).await?;
    let mut others = Vec::new();
    for number in 2..=4 {
        others.push(stage.with_database(bench, &format!("growth_consumers_{number}")).await?);
    }
    let mut measured = [1, 2, 4].map(|consumers| (consumers, Vec::new()));
    for round in 1..=size.rounds {
        for (consumers, rates) in &mut measured {
            let rate = deliveries(&stage, &others, usize::try_from(*consumers)?, round).await?;
            progress(&format!("{round}/{}: {consumers}: {rate:.0} deliveries/s", size.rounds));
            rates.push(rate);
        }
    }
    Ok(vec![Curve::new("consumers of a topic", "deliveries/s", measured.into())])
}

/// Returns the deliveries per second, from the first transaction of any consumer to the last
/// effect.
async fn deliveries(
    first: &Stage,
    others: &[Stage],
    consumers: usize,
    round: u32,
) -> Fallible<f64> {
    // Each combination has a new group, as long as `consumers` is less than 10.
    let generation = 10 * round + u32::try_from(consumers)?;
    let options = Options { max_batch: 500, ..Options::default() };
    let stages = std::iter::once(first).chain(others).zip(NAMES).take(consumers);
    let running = stages.map(async |(stage, name): (&Stage, &str)| {
        stage.clear().await?;
        let subscription = Subscription::new(name).generation(generation);
        stage.span(subscription.each_once(InsertEffect), options.clone()).await
    });
    let (mut began, mut ended) = (f64::MAX, f64::MIN);
    for span in futures::future::join_all(running).await {
        let (from, to) = span?;
        (began, ended) = (began.min(from), ended.max(to));
    }
    Ok(count(first.events() * consumers) / (ended - began))
}
