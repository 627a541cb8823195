//! What spans and log lines cost that nobody exports: orders with production's subscriber, without an exporter, beside orders
//! with none at all.

use crate::orders::Http;
use crate::report::{Report, Round, Row};
use crate::servers::Bench;
use crate::{Fallible, Size};

const SECONDS: u64 = 5;

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let steps = ("FLOW_STEPS", "off");
    let off = [steps, ("TELEMETRY", "off")];
    let mut on = Http::start(bench, "telemetry_on", "telemetry-on-", &[steps]).await?;
    let mut off = Http::start(bench, "telemetry_off", "telemetry-off-", &off).await?;
    for service in [&on, &off] {
        service.run(1).await?; // The first requests connect and prepare.
    }
    let seconds = size.seconds(SECONDS);
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        // Each side is first in every other round, since what the one leaves behind slows the other.
        let (ours, theirs) = if round % 2 == 0 {
            (on.run(seconds).await?.0, off.run(seconds).await?.0)
        } else {
            let theirs = off.run(seconds).await?.0;
            (on.run(seconds).await?.0, theirs)
        };
        let said = format!("{ours:.0} orders/s, without telemetry {theirs:.0}");
        report.round("telemetry", round, size.rounds, &said);
        rounds.push(Round { ours, theirs });
    }
    on.service.terminate().await;
    off.service.terminate().await;
    Ok(vec![Row::rate("orders with telemetry, over without", "orders/s", 0.97, rounds)])
}
