//! Lag of the consumer groups.

use std::collections::{BTreeMap, BTreeSet};

use super::line::StatusLine;
use super::snapshot::{ServiceStatus, Snapshot, unknown};
use crate::alerts::of_lag;
use crate::lag::{GroupLag, LAG_THRESHOLD, Lag};
use crate::plain::{count, plain};

/// Returns the line of the lag as measured from Kafka, which includes services that are down. A
/// group is not well if the condition of an alert on lag holds. If Kafka does not answer, shows the
/// lag that the services have measured.
pub(super) fn line(snapshot: &Snapshot) -> StatusLine {
    let lag = by_group(snapshot);
    let troubles: Vec<_> = match &snapshot.lag {
        Ok(measured) => of_lag(measured)
            .into_iter()
            .filter(|it| it.rule.name != "LagHigh")
            .map(|it| (it.subject.group, plain(&it.summary)))
            .collect(),
        Err(_) => Vec::new(),
    };
    let troubles: Vec<_> = too_far(&lag).chain(troubles).collect();
    let groups: BTreeSet<_> = troubles.iter().map(|(group, _)| group).collect();
    let line = if groups.is_empty() {
        StatusLine::well("lag", worst(&lag))
    } else {
        StatusLine::bad("lag", count(groups.len() as u64, "group is", "groups are") + " not well")
            .details(troubles.iter().map(|(_, trouble)| trouble.clone()).collect())
            .next("orderflow lag")
    };
    if snapshot.lag.is_ok() {
        return line;
    }
    let (unknown, unreachable) = unknown(&snapshot.services, |it| &it.metrics);
    line.source("as measured by the services").without(&unknown, &unreachable)
}

/// Returns the groups that are too many messages behind, each with their number.
fn too_far(lag: &BTreeMap<String, u64>) -> impl Iterator<Item = (String, String)> {
    let behind = lag.iter().filter(|(_, messages)| **messages > LAG_THRESHOLD);
    behind.map(|(group, messages)| {
        let messages = count(*messages, "message", "messages");
        (group.clone(), format!("{}: {messages}", plain(group)))
    })
}

fn worst(lag: &BTreeMap<String, u64>) -> String {
    let worst = lag.iter().max_by_key(|(_, messages)| **messages);
    worst.filter(|(_, messages)| **messages > 0).map_or_else(
        || "none".to_owned(),
        |(group, messages)| {
            format!("at most {}, of {}", count(*messages, "message", "messages"), plain(group))
        },
    )
}

/// Returns the groups of the services, without groups of other systems.
fn ours(lag: &Lag) -> impl Iterator<Item = &GroupLag> {
    lag.groups.iter().filter(|group| group.service.is_some())
}

/// Returns the lag of each group, in messages.
pub(super) fn by_group(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    match &snapshot.lag {
        Ok(lag) => ours(lag).filter_map(|it| Some((it.group.clone(), it.messages()?))).collect(),
        Err(_) => by_services(&snapshot.services),
    }
}

fn by_services(services: &[ServiceStatus]) -> BTreeMap<String, u64> {
    let mut lag = BTreeMap::new();
    for metrics in services.iter().filter_map(|it| it.metrics.as_ref().ok()) {
        for sample in metrics.samples("consumer_lag") {
            let group = sample.label("messaging_consumer_group_name").unwrap_or("-");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            // The conversion saturates.
            let messages = sample.value as u64;
            *lag.entry(group.to_owned()).or_default() += messages;
        }
    }
    lag
}
