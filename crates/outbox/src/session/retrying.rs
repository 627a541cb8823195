use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::Session;
use crate::in_flight::InFlight;
use crate::topic::{Topic, TopicId};

impl Session<'_> {
    /// Begins retries of refused keys whose pauses are over: one for each partition, of the key
    /// that has waited longest.
    pub(super) fn begin_retries(&mut self, now: Instant) {
        for (id, topic) in self.topics.iter_mut() {
            end_retries(topic, now);
            if topic.keys.is_empty() || !topic.is_open(now) || topic.is_being_resized() {
                continue;
            }
            for (number, key) in due_keys(id, topic, &self.flights, now) {
                let under_way = self.flights.load(id, number).records;
                let Some(partition) = topic.partition_mut(number) else { continue };
                if !partition.is_closed(now, under_way) && partition.retries.may_begin(now) {
                    partition.retries.begin(key, now);
                }
            }
        }
    }
}

/// Ends retries for which a partition did not drain in time, and those of keys without waiting
/// rows.
pub(super) fn end_retries(topic: &mut Topic, now: Instant) {
    let keys = &topic.keys;
    for partition in &mut topic.partitions {
        partition.retries.expire(now);
        let waits = |key: &Arc<str>| keys.get(key).is_some_and(|refused| refused.aside.is_some());
        if partition.retries.awaited().is_some_and(|key| !waits(key)) {
            partition.retries.end(now);
        }
    }
}

/// Returns the refused key to retry next in each partition.
fn due_keys(
    id: TopicId,
    topic: &Topic,
    flights: &InFlight,
    now: Instant,
) -> BTreeMap<i32, Arc<str>> {
    let mut due = BTreeMap::<i32, (Instant, &Arc<str>)>::new();
    for (key, refused) in &topic.keys {
        let (Some(pause), Some(_)) = (&refused.pause, &refused.aside) else { continue };
        if pause.is_over(now) && !flights.has_key(id, key) {
            let number = kafka::partition_of(key.as_bytes(), topic.count().unwrap_or_default());
            let candidate = (pause.until(), key);
            let first = due.entry(number).or_insert(candidate);
            *first = (*first).min(candidate);
        }
    }
    due.into_iter().map(|(number, (_, key))| (number, Arc::clone(key))).collect()
}

/// Returns whether a partition is empty for the record of a refused key.
pub(super) fn retry_is_ready(id: TopicId, topic: &Topic, flights: &InFlight) -> bool {
    (0..).zip(&topic.partitions).any(|(number, partition)| {
        partition.retries.awaited().is_some() && flights.load(id, number).records == 0
    })
}

/// Returns whether a partition accepts a key's rows left aside: it is empty for the key's retry, or
/// not reserved for another key's.
pub(super) fn partition_takes_key(
    id: TopicId,
    topic: &Topic,
    key: &str,
    is_retry: bool,
    flights: &InFlight,
    now: Instant,
) -> bool {
    let number = kafka::partition_of(key.as_bytes(), topic.count().unwrap_or_default());
    let under_way = flights.load(id, number).records;
    let Some(partition) = topic.partition(number).filter(|it| !it.is_closed(now, under_way)) else {
        return false;
    };
    if is_retry {
        under_way == 0 && partition.retries.awaited().is_some_and(|awaited| **awaited == *key)
    } else {
        !partition.retries.is_on()
    }
}
