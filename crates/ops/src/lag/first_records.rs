//! The first record from an offset on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::{Message, Offset, TopicPartitionList};

use super::partition_lag::TopicPartition;

const POLL: Duration = Duration::from_millis(50);

/// An offset of a partition.
pub(super) type Place = (TopicPartition, i64);

/// What there is from an offset on. Not every offset has a record: the markers of transactions have offsets, and compaction
/// removes records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    Record {
        offset: i64,
        /// Milliseconds since 1970, UTC; `None` if it has no time.
        millis: Option<i64>,
    },
    /// There is no record up to the end.
    Nothing,
}

/// Returns the first record from each of these places on. Those that could not be read in time are missing.
pub(super) fn first_records(
    client: &BaseConsumer,
    places: &BTreeSet<Place>,
    deadline: Instant,
) -> Result<HashMap<Place, First>, KafkaError> {
    let mut found = HashMap::new();
    // A topic at a time: the client's `PartitionEOF` does not name it. Of each partition one offset at a time.
    let mut rounds: BTreeMap<(&str, usize), Vec<(i32, i64)>> = BTreeMap::new();
    let mut last: Option<(&TopicPartition, usize)> = None;
    for (at, offset) in places {
        let round = last.filter(|(before, _)| *before == at).map_or(0, |(_, round)| round + 1);
        last = Some((at, round));
        rounds.entry((&at.topic, round)).or_default().push((at.partition, *offset));
    }
    for ((topic, _), offsets) in rounds {
        let firsts = read(client, topic, &offsets, deadline)?;
        found.extend(firsts.into_iter().map(|(partition, offset, first)| {
            ((TopicPartition { topic: topic.to_owned(), partition }, offset), first)
        }));
    }
    client.unassign()?;
    Ok(found)
}

/// Reads partitions of one topic, each once.
fn read(
    client: &BaseConsumer,
    topic: &str,
    offsets: &[(i32, i64)],
    deadline: Instant,
) -> Result<Vec<(i32, i64, First)>, KafkaError> {
    {
        // The client's drop waits for ever while a list is alive.
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        client.assign(&list)?;
    }
    let mut left: HashMap<_, _> = offsets.iter().copied().collect();
    let mut firsts = Vec::new();
    while !left.is_empty() && Instant::now() < deadline {
        let (partition, first) = match client.poll(POLL) {
            Some(Ok(record)) if record.topic() == topic => {
                let millis = record.timestamp().to_millis();
                (record.partition(), First::Record { offset: record.offset(), millis })
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => (partition, First::Nothing),
            // The client goes on by itself.
            None | Some(_) => continue,
        };
        if let Some(offset) = left.remove(&partition) {
            firsts.push((partition, offset, first));
        }
    }
    Ok(firsts)
}
