//! How far behind the consumer groups are.

use std::collections::BTreeMap;

use super::line::Line;
use super::snapshot::{ServiceStatus, unknown};
use crate::plain::{count, plain};

/// A group that is further behind than this is not well.
const THRESHOLD: u64 = 10_000;

/// Returns the lag as the services measure it: of partitions that the instances that answer have.
pub(super) fn lag_lines(services: &[ServiceStatus]) -> Vec<Line> {
    let lag = by_group(services);
    let (unknown, unreachable) = unknown(services, |it| &it.metrics);
    let behind = lag.iter().filter(|(_, messages)| **messages > THRESHOLD);
    let details: Vec<_> = behind
        .map(|(group, messages)| {
            format!("{}: {}", plain(group), count(*messages, "message", "messages"))
        })
        .collect();
    let line = if details.is_empty() {
        let worst = lag.iter().max_by_key(|(_, messages)| **messages);
        let text = worst.filter(|(_, messages)| **messages > 0).map_or_else(
            || "none".to_owned(),
            |(group, messages)| {
                format!("at most {}, of {}", count(*messages, "message", "messages"), plain(group))
            },
        );
        Line::well("lag", text)
    } else {
        Line::bad("lag", format!("{} behind", count(details.len() as u64, "group", "groups")))
            .details(details)
            .next("orderflow subscriptions")
    };
    vec![line.without(&unknown, &unreachable)]
}

/// Returns the lag of each group, in messages.
pub(super) fn by_group(services: &[ServiceStatus]) -> BTreeMap<String, u64> {
    let mut lag = BTreeMap::new();
    for metrics in services.iter().filter_map(|it| it.metrics.as_ref().ok()) {
        for sample in metrics.samples("consumer_lag") {
            let group = sample.label("messaging_consumer_group_name").unwrap_or("-");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float saturates
            let messages = sample.value as u64;
            *lag.entry(group.to_owned()).or_default() += messages;
        }
    }
    lag
}
