//! Measures the cost of telemetry without an exporter: the binary `order`, and the same service
//! without a subscriber of `tracing`, both without flow steps, whose cost is a row of its own.

use crate::orders::{self, Http};
use crate::report::{Report, Row};
use crate::servers::Bench;
use crate::{Fallible, Size};

const SECONDS: u64 = 5;
const SETTINGS: [(&str, &str); 1] = [("FLOW_STEPS", "off")];

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let traced = Http::start(bench, "traced", "traced-", &SETTINGS).await?;
    let untraced =
        Http::start_program("order-untraced", bench, "untraced", "untraced-", &SETTINGS).await?;
    for service in [&traced, &untraced] {
        service.run(1).await?; // The first requests connect and prepare.
    }
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let rates = orders::both(round, size.seconds(SECONDS), &traced, &untraced).await?;
        let summary = format!("{:.0} orders/s, without {:.0}", rates.ours, rates.theirs);
        report.round("telemetry", round, size.rounds, &summary);
        rounds.push(rates);
    }
    traced.stop().await;
    untraced.stop().await;
    Ok(vec![Row::rate("orders, telemetry without exporter, over none", "orders/s", 0.97, rounds)])
}
