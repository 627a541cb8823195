//! Lag as JSON.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::group_lag::{CatchUp, GroupLag, Lag};
use super::partition_lag::PartitionLag;
use crate::error::Error;

/// Writes one document. Unknown values are null.
pub(super) fn write(out: &mut impl Write, lag: &Lag, threshold: u64) -> Result<(), Error> {
    let groups: Vec<_> = lag.groups.iter().map(|it| group(it, threshold)).collect();
    let at = humantime::format_rfc3339_millis(lag.at).to_string();
    let document = json!({ "measured_at": at, "threshold": threshold, "groups": groups });
    writeln!(out, "{document}")?;
    Ok(())
}

fn group(group: &GroupLag, threshold: u64) -> Value {
    let catch_up = match group.catch_up() {
        Some(CatchUp::Now) => Some(0.0),
        Some(CatchUp::In(after)) => Some(after.as_secs_f64()),
        Some(CatchUp::Never) | None => None,
    };
    json!({
        "group": group.group,
        "consumergroup": group.name,
        "service": group.service,
        "state": group.state(threshold).to_string(),
        "members": group.members,
        "messages": group.messages(),
        "seconds": group.age().map(|it| it.as_secs_f64()),
        "consumed_per_second": group.rates.map(|it| it.consumed),
        "arrived_per_second": group.rates.map(|it| it.arrived),
        "catch_up_seconds": catch_up,
        "lost": group.lost(),
        "share_of_retention": group.share_of_retention(),
        "is_stalled": group.is_stalled(),
        "is_well": group.is_well(threshold),
        "missing_topics": group.missing_topics,
        "unknown": group.unknown,
        "partitions": group.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

fn partition(partition: &PartitionLag) -> Value {
    json!({
        "topic": partition.at.topic,
        "partition": partition.at.partition,
        "committed": partition.committed,
        "low": partition.ends.low,
        "high": partition.ends.high,
        "messages": partition.messages,
        "seconds": partition.age.map(|it: Duration| it.as_secs_f64()),
        "lost": partition.lost,
    })
}
