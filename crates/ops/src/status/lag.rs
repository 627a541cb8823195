//! Lag of the consumer groups.

use std::collections::BTreeMap;

use super::line::StatusLine;
use super::snapshot::{ServiceStatus, Snapshot, unknown};
use crate::lag::{GroupLag, LAG_THRESHOLD, Lag};
use crate::plain::{count, plain};

/// Returns the line of the lag as measured from Kafka, which includes services that are down. If
/// Kafka does not answer, shows the lag that the services have measured.
pub(super) fn line(snapshot: &Snapshot) -> StatusLine {
    let lag = by_group(snapshot);
    let behind = lag.iter().filter(|(_, messages)| **messages > LAG_THRESHOLD);
    let mut details: Vec<_> = behind
        .map(|(group, messages)| {
            format!("{}: {}", plain(group), count(*messages, "message", "messages"))
        })
        .collect();
    details.extend(snapshot.lag.iter().flat_map(|lag| ours(lag).filter_map(trouble)));
    let line = if details.is_empty() {
        StatusLine::well("lag", worst(&lag))
    } else {
        StatusLine::bad("lag", count(details.len() as u64, "group is", "groups are") + " not well")
            .details(details)
            .next("orderflow lag")
    };
    if snapshot.lag.is_ok() {
        return line;
    }
    let (unknown, unreachable) = unknown(&snapshot.services, |it| &it.metrics);
    line.source("as measured by the services").without(&unknown, &unreachable)
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

/// Returns the problem of a group, apart from its number of messages.
fn trouble(group: &GroupLag) -> Option<String> {
    let why = if let Some(topic) = group.missing_topics.first() {
        format!("there is no topic {topic}")
    } else if let Some(why) = &group.unknown {
        why.clone()
    } else if group.lost() > 0 {
        count(group.lost(), "message was", "messages were") + " deleted before it read them"
    } else {
        return None;
    };
    Some(plain(&format!("{}: {why}", group.group)))
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
