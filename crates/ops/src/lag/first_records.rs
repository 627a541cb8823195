//! Finds the first record from an offset on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::consumer::Consumer;
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::{Message, Offset, TopicPartitionList};

use super::cluster;
use super::partition_lag::TopicPartition;

const POLL: Duration = Duration::from_millis(50);
/// Number of clients that read concurrently.
const AT_ONCE: usize = 4;

/// An offset of a partition.
pub(super) type PartitionOffset = (TopicPartition, i64);

/// The first record from an offset on. Not every offset has a record: markers of transactions have
/// offsets, and compaction removes records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    Record {
        offset: i64,
        /// Milliseconds since 1970, UTC. `None` if the record has no time.
        millis: Option<i64>,
    },
    /// There is no record before the end.
    Nothing,
}

/// Partitions of one topic, each with one offset.
struct Round<'a> {
    topic: &'a str,
    offsets: Vec<(i32, i64)>,
}

/// Returns the first record from each of these places on. Places that could not be read in time are
/// left out.
pub(super) fn first_records(
    settings: &Settings,
    places: &BTreeSet<PartitionOffset>,
    deadline: Instant,
) -> HashMap<PartitionOffset, First> {
    let mut found = HashMap::new();
    for rounds in rounds(places).chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let reading: Vec<_> = rounds
                .iter()
                .map(|round| scope.spawn(move || round.read(settings, deadline)))
                .collect();
            for read in reading {
                found.extend(read.join().ok().and_then(Result::ok).unwrap_or_default());
            }
        });
    }
    found
}

/// Groups places by topic, with each partition once, because the client's `PartitionEOF` does not
/// contain the topic.
fn rounds(places: &BTreeSet<PartitionOffset>) -> Vec<Round<'_>> {
    let mut rounds: BTreeMap<(&str, usize), Vec<(i32, i64)>> = BTreeMap::new();
    let mut last: Option<(&TopicPartition, usize)> = None;
    for (at, offset) in places {
        let round = last.filter(|(before, _)| *before == at).map_or(0, |(_, round)| round + 1);
        last = Some((at, round));
        rounds.entry((&at.topic, round)).or_default().push((at.partition, *offset));
    }
    let rounds = rounds.into_iter().map(|((topic, _), offsets)| Round { topic, offsets });
    rounds.collect()
}

impl Round<'_> {
    /// Reads each partition once, with a client that is assigned partitions only once: librdkafka
    /// 2.12 aborts the process if another assignment overtakes the start of the previous one
    /// (`rd_kafka_assignment_partition_stopped`).
    fn read(
        &self,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Vec<(PartitionOffset, First)>, KafkaError> {
        let client = cluster::client(settings, &settings.prefixed("reader"))?;
        {
            // Dropping the client blocks forever while a list is alive.
            let mut list = TopicPartitionList::new();
            for (partition, offset) in &self.offsets {
                list.add_partition_offset(self.topic, *partition, Offset::Offset(*offset))?;
            }
            client.assign(&list)?;
        }
        let mut left: HashMap<_, _> = self.offsets.iter().copied().collect();
        let mut firsts = Vec::new();
        while !left.is_empty() && Instant::now() < deadline {
            let (partition, first) = match client.poll(POLL) {
                Some(Ok(record)) => {
                    let millis = record.timestamp().to_millis();
                    (record.partition(), First::Record { offset: record.offset(), millis })
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => (partition, First::Nothing),
                // The client retries by itself.
                None | Some(Err(_)) => continue,
            };
            if let Some(offset) = left.remove(&partition) {
                let at = TopicPartition { topic: self.topic.to_owned(), partition };
                firsts.push(((at, offset), first));
            }
        }
        Ok(firsts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_one_topic_and_each_partition_once() {
        let place = |topic: &str, partition, offset| {
            (TopicPartition { topic: topic.into(), partition }, offset)
        };
        let places =
            [place("a", 0, 5), place("a", 0, 9), place("a", 1, 7), place("b", 0, 5)].into();
        let rounds = rounds(&places);
        let rounds: Vec<_> = rounds.iter().map(|it| (it.topic, &*it.offsets)).collect();
        assert_eq!(rounds, [("a", &[(0, 5), (1, 7)][..]), ("a", &[(0, 9)]), ("b", &[(0, 5)])]);
    }
}
