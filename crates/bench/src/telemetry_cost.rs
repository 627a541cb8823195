//! Measures the cost of telemetry without an exporter: the binary `order`, and the same service
//! without a subscriber of `tracing`, both without flow steps, whose cost is a row of its own.

use crate::orders::{self, Variant};
use crate::report::{Report, Row};
use crate::servers::Bench;
use crate::{Fallible, Size};

const TRACED: Variant = Variant { program: "order", settings: &[("FLOW_STEPS", "off")] };
const UNTRACED: Variant = Variant { program: "order-untraced", settings: &[("FLOW_STEPS", "off")] };

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let (ours, theirs) = (("traced", &TRACED), ("untraced", &UNTRACED));
        let (rates, traced) = orders::compare(bench, size, round, ours, theirs).await?;
        traced.stop().await;
        let summary = format!("{:.0} orders/s, without {:.0}", rates.ours, rates.theirs);
        report.round("telemetry", round, size.rounds, &summary);
        rounds.push(rates);
    }
    Ok(vec![Row::rate("orders, telemetry without exporter, over none", "orders/s", 0.97, rounds)])
}
