//! Measures how long events take until a consumer can read them, with a client that is in no group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::{Offset, TopicPartitionList};
use kafka::{Record, Settings};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Error;
use super::topics;

/// Topics of events that every order has, or many.
const WATCHED: [&str; 4] = ["order.created", "order.updated", "order.completed", "invoice.issued"];
const POLL: Duration = Duration::from_millis(20);

/// An event that was read.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Time at which it was written to the outbox, before its transaction was committed.
    pub(crate) created: OffsetDateTime,
    /// Time from then until it was read for the first time.
    pub(crate) took: Duration,
}

/// Reads the topics from their current ends, until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Waits {
    stopped: Arc<AtomicBool>,
    reading: JoinHandle<Result<Vec<Wait>, Error>>,
}

impl Waits {
    /// Starts to read at the next event of each partition.
    pub(crate) fn watch(settings: &Settings) -> Result<Self, Error> {
        let mut ends = Vec::new();
        for topic in WATCHED {
            ends.extend(
                topics::ends(settings, topic)?.into_iter().map(|(id, end)| (topic, id, end)),
            );
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (settings, until) = (settings.clone(), Arc::clone(&stopped));
        Ok(Self { stopped, reading: spawn_blocking(move || read(&settings, &ends, &until)) })
    }

    /// Returns the waits of all events that were read.
    pub(crate) async fn stop(mut self) -> Result<Vec<Wait>, Error> {
        self.stopped.store(true, Ordering::SeqCst);
        (&mut self.reading).await?
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

fn read(
    settings: &Settings,
    ends: &[(&str, i32, i64)],
    stopped: &AtomicBool,
) -> Result<Vec<Wait>, Error> {
    let mut config = settings.client();
    config.set("group.id", "waits").set("enable.auto.commit", "false");
    config.set("fetch.wait.max.ms", "20");
    // A partition without a leader is read as soon as it has one.
    config.set("topic.metadata.refresh.interval.ms", "1000");
    let consumer: BaseConsumer = config.create()?;
    let mut assigned = TopicPartitionList::new();
    for (topic, partition, end) in ends {
        assigned.add_partition_offset(topic, *partition, Offset::Offset(*end))?;
    }
    consumer.assign(&assigned)?;
    // A living list would keep the consumer's drop from returning.
    drop(assigned);
    let mut waits = BTreeMap::new();
    while !stopped.load(Ordering::SeqCst) {
        // The client recovers from errors by itself.
        let Some(Ok(message)) = consumer.poll(POLL) else { continue };
        let now = OffsetDateTime::now_utc();
        let record = Record::from_message(&message);
        if let (Some(id), Some(created)) = (record.text_header("ce_id"), created(&record)) {
            let took = (now - created).try_into().unwrap_or_default();
            let wait =
                Wait { topic: record.topic.clone(), partition: record.partition, created, took };
            // An event that was published again keeps its first wait.
            waits.entry(id.to_owned()).or_insert(wait);
        }
    }
    Ok(waits.into_values().collect())
}

fn created(record: &Record) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(record.text_header("ce_time")?, &Rfc3339).ok()
}

/// Returns the 99th percentile and the maximum of the waits.
pub(crate) fn p99_and_longest<'a>(waits: impl Iterator<Item = &'a Wait>) -> (Duration, Duration) {
    let mut took: Vec<_> = waits.map(|wait| wait.took).collect();
    took.sort_unstable();
    let at = |position: usize| took.get(position).copied().unwrap_or_default();
    (at(took.len() * 99 / 100), at(took.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_exceeds_the_p99() {
        let wait = |millis| Wait {
            topic: "order.created".into(),
            partition: 0,
            created: OffsetDateTime::UNIX_EPOCH,
            took: Duration::from_millis(millis),
        };
        let waits: Vec<_> = (1..=200).rev().map(wait).collect();
        let millis = (Duration::from_millis(199), Duration::from_millis(200));
        assert_eq!(p99_and_longest(waits.iter()), millis);
        assert_eq!(p99_and_longest([].iter()), (Duration::ZERO, Duration::ZERO));
    }
}
