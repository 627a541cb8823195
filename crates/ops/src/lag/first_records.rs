//! Finds the first record from an offset on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::consumer::Consumer;
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::{Message, Offset, TopicPartitionList};

use super::cluster;
use super::consumed::{Consumed, Rank};
use super::partition_lag::{Ends, TopicPartition};

const POLL: Duration = Duration::from_millis(50);
/// Number of clients that read concurrently.
const AT_ONCE: usize = 4;
/// How long a round waits for its other partitions after one has answered, so that those that do
/// not leave their reader to other rounds.
const QUIET: Duration = Duration::from_secs(1);

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

/// Returns the positions of all groups in the partitions in which they are behind. A position that
/// several groups share has the rank of the first of them.
pub(super) fn ranked(
    groups: &[Consumed],
    ends: &HashMap<TopicPartition, Ends>,
) -> BTreeMap<PartitionOffset, Rank> {
    let mut places = BTreeMap::new();
    for group in groups {
        for place in group.places(ends) {
            let rank = places.entry(place).or_insert(Rank::Other);
            *rank = group.rank().min(*rank);
        }
    }
    places
}

/// Returns the first record from each of these places on, read by rank. Places that could not be
/// read in time are left out.
pub(super) fn first_records(
    settings: &Settings,
    places: &BTreeMap<PartitionOffset, Rank>,
    deadline: Instant,
) -> HashMap<PartitionOffset, First> {
    let read = |round: &Round<'_>| round.read(settings, deadline).unwrap_or_default();
    read_all(&rounds(places), deadline, read).into_iter().collect()
}

/// Reads rounds in their order, several at a time, until the deadline. Each reader takes the next
/// round by itself, so that one whose broker does not answer occupies only one reader.
fn read_all<T: Send>(
    rounds: &[Round<'_>],
    deadline: Instant,
    read: impl Fn(&Round<'_>) -> Vec<T> + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut found = Vec::new();
        while Instant::now() < deadline
            && let Some(round) = rounds.get(next.fetch_add(1, Ordering::Relaxed))
        {
            found.extend(read(round));
        }
        found
    };
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..AT_ONCE.min(rounds.len())).map(|_| scope.spawn(read_some)).collect();
        readers.into_iter().flat_map(|it| it.join().unwrap_or_default()).collect()
    })
}

/// Groups places by rank and topic, with each partition once, because the client's `PartitionEOF`
/// does not contain the topic.
fn rounds(places: &BTreeMap<PartitionOffset, Rank>) -> Vec<Round<'_>> {
    let mut rounds = BTreeMap::<(Rank, &str, usize), Vec<_>>::new();
    let mut rounds_of: HashMap<(Rank, &TopicPartition), usize> = HashMap::new();
    for ((at, offset), rank) in places {
        let round = rounds_of.entry((*rank, at)).or_default();
        rounds.entry((*rank, &at.topic, *round)).or_default().push((at.partition, *offset));
        *round += 1;
    }
    let rounds = rounds.into_iter().map(|((_, topic, _), offsets)| Round { topic, offsets });
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
        let mut until = deadline;
        while !left.is_empty() && Instant::now() < until {
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
                until = deadline.min(Instant::now() + QUIET);
            }
        }
        Ok(firsts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Listed;
    use super::super::subscribed::Wanted;
    use super::*;

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    #[test]
    fn a_round_has_one_topic_and_each_partition_once() {
        let place = |topic: &str, partition, offset| ((at(topic, partition), offset), Rank::Other);
        let places =
            [place("a", 0, 5), place("a", 0, 9), place("a", 1, 7), place("b", 0, 5)].into();
        let rounds = rounds(&places);
        let rounds: Vec<_> = rounds.iter().map(|it| (it.topic, &*it.offsets)).collect();
        assert_eq!(rounds, [("a", &[(0, 5), (1, 7)][..]), ("a", &[(0, 9)]), ("b", &[(0, 5)])]);
    }

    #[test]
    fn places_of_our_groups_are_read_before_other_peoples() {
        let settings = Settings::new("b:1", "t.");
        let wanted = Wanted { services: ["billing".into()].into(), ..Wanted::default() };
        let group = |name: &str, topics: &[&str]| {
            let committed = topics.iter().map(|topic| (at(topic, 0), 2)).collect();
            let listed = (name.to_owned(), Listed::default());
            Consumed::new(&settings, &wanted, listed, Some(Ok(committed)), [].into())
        };
        let groups = [
            group("reports", &["a", "t.z"]),
            group("t.console-consumer-1", &["t.m"]),
            group("t.billing", &["t.z"]),
        ];
        let ends = ["a", "t.m", "t.z"].map(|topic| (at(topic, 0), Ends { low: 0, high: 5 }));
        let places = ranked(&groups, &ends.into());
        let topics: Vec<_> = rounds(&places).iter().map(|it| it.topic).collect();
        assert_eq!(topics, ["t.z", "t.m", "a"]);
    }

    #[test]
    fn a_round_without_an_answer_holds_up_no_other() {
        let round = |number| Round { topic: "t", offsets: vec![(number, 0)] };
        let rounds: Vec<_> = (0..20).map(round).collect();
        let deadline = Instant::now() + Duration::from_secs(1);
        let read = read_all(&rounds, deadline, |round| {
            let partition = round.offsets[0].0;
            if partition == 0 {
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
            }
            vec![partition]
        });
        assert_eq!(read.len(), 20, "{read:?}");
    }
}
