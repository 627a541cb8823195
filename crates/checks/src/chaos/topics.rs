//! Reads Kafka from outside: nothing here joins a group or moves its offsets.

use std::collections::HashMap;
use std::time::Duration;

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::groups::GroupMemberInfo;
use kafka::rdkafka::metadata::MetadataTopic;
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::rdkafka::{Offset, TopicPartitionList};
use kafka::{Coordinates, Headers, Record, Settings, client_headers};
use tokio::task::block_in_place;

use super::Error;

/// Time limit of a request to Kafka.
const ASK: Duration = Duration::from_secs(5);
/// Time limit of reading a topic.
const READ: Duration = Duration::from_mins(1);

/// Group whose records are accounted for.
pub(crate) const GROUP: &str = "billing";
/// Group that credits cancelled orders.
pub(crate) const CREDITS: &str = "billing.credits";
/// The topics that [`GROUP`] reads.
pub(crate) const READ_BY_BILLING: [&str; 1] = ["order.completed"];
pub(crate) const DEAD_LETTERS: &str = "billing.dlq";
/// The groups of notification and analytics, each with the topics that it reads.
pub(crate) const OTHER_GROUPS: [(&str, &[&str]); 4] = [
    ("notification", &["order.completed", "order.cancelled", "invoice.issued", "invoice.credited"]),
    ("analytics", &["order.created", "order.updated", "order.completed", "order.cancelled"]),
    ("analytics.basket", &["order.completed", "order.cancelled"]),
    (
        "analytics.history",
        &[
            "order.created",
            "order.updated",
            "order.completed",
            "order.cancelled",
            "invoice.issued",
            "invoice.credited",
        ],
    ),
];

/// Topic, partition and offset of a record.
pub(crate) type RecordPosition = (String, i32, i64);

pub(crate) fn position_of(record: &Record) -> RecordPosition {
    (record.topic.clone(), record.partition, record.offset)
}

/// Returns the original position of a dead letter, or `None` if its headers do not name it.
pub(crate) fn origin_of(dead: &Record) -> Option<RecordPosition> {
    let Coordinates { topic, partition, offset, .. } = Coordinates::carried_by(dead)?;
    Some((topic, partition, offset))
}

/// Creates a client with the id of a group, which does not join it.
fn watcher_of(settings: &Settings, group: &str) -> Result<BaseConsumer, Error> {
    let mut config = settings.client();
    config.set("group.id", group).set("enable.auto.commit", "false");
    Ok(config.create()?)
}

fn watcher(settings: &Settings) -> Result<BaseConsumer, Error> {
    watcher_of(settings, GROUP)
}

/// Returns `true` if the cluster knows the topic.
pub(crate) fn exists(settings: &Settings, topic: &str) -> Result<bool, Error> {
    block_in_place(|| {
        let metadata = watcher(settings)?.fetch_metadata(Some(topic), ASK)?;
        let known = |it: &MetadataTopic| it.error().is_none() && !it.partitions().is_empty();
        Ok(metadata.topics().iter().all(known))
    })
}

/// Returns the first and the next offset of each partition.
fn bounds(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64, i64)>, Error> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let bound = |partition: i32| {
        let (low, high) = consumer.fetch_watermarks(topic, partition, ASK)?;
        Ok((partition, low, high))
    };
    partitions.map(|partition| bound(partition.id())).collect()
}

/// Returns the next offset of each partition.
pub(crate) fn ends(settings: &Settings, topic: &str) -> Result<Vec<(i32, i64)>, Error> {
    block_in_place(|| {
        let bounds = bounds(&watcher(settings)?, topic)?;
        Ok(bounds.into_iter().map(|(partition, _, high)| (partition, high)).collect())
    })
}

/// Returns all records of a topic, by partition in the order of their offsets.
pub(crate) fn read_all(settings: &Settings, topic: &str) -> Result<Vec<Record>, Error> {
    Ok(block_in_place(|| kafka::read_to_end(settings, topic, READ))?)
}

/// Offsets by topic and partition.
pub(crate) type Offsets = HashMap<(String, i32), i64>;

/// Progress of the group.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Committed offsets.
    pub(crate) committed: Offsets,
    /// Number of records that are not processed yet.
    pub(crate) lag: i64,
}

/// Returns the number of records of a topic that a group has not processed yet.
pub(crate) fn lag(settings: &Settings, group: &str, topic: &str) -> Result<i64, Error> {
    block_in_place(|| {
        let consumer = watcher_of(settings, group)?;
        let mut lag = 0;
        for (partition, low, high) in bounds(&consumer, topic)? {
            lag += high - committed_offset(&consumer, topic, partition)?.unwrap_or(low);
        }
        Ok(lag)
    })
}

/// Returns those of [`OTHER_GROUPS`] that have not processed all records, each with the number of
/// records of a topic.
pub(crate) fn lags_of_others(settings: &Settings) -> Result<Vec<String>, Error> {
    let mut behind = Vec::new();
    for (group, topics) in OTHER_GROUPS {
        for topic in topics {
            let lag = lag(settings, group, topic)?;
            if lag > 0 {
                behind.push(format!("{group} has {lag} records of {topic} to read"));
            }
        }
    }
    Ok(behind)
}

/// Returns the offsets after the last records of the topics that billing reads.
pub(crate) fn ends_for_billing(settings: &Settings) -> Result<Offsets, Error> {
    let mut all = Offsets::new();
    for topic in READ_BY_BILLING {
        let ends = ends(settings, topic)?.into_iter();
        all.extend(ends.map(|(partition, end)| ((topic.to_owned(), partition), end)));
    }
    Ok(all)
}

pub(crate) fn progress(settings: &Settings) -> Result<Progress, Error> {
    block_in_place(|| {
        let consumer = watcher(settings)?;
        let mut progress = Progress::default();
        for topic in READ_BY_BILLING {
            for (partition, low, high) in bounds(&consumer, topic)? {
                let at = committed_offset(&consumer, topic, partition)?.unwrap_or(low);
                progress.committed.insert((topic.to_owned(), partition), at);
                progress.lag += high - at;
            }
        }
        Ok(progress)
    })
}

fn committed_offset(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, Error> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let answer = consumer.committed_offsets(asked, ASK)?;
    let found = answer.find_partition(topic, partition);
    Ok(found.and_then(|found| match found.offset() {
        Offset::Offset(at) => Some(at),
        _ => None,
    }))
}

/// Returns the number of the group's members, or `None` during a rebalance.
pub(crate) fn members(settings: &Settings) -> Result<Option<usize>, Error> {
    Ok(member_ids(settings)?.map(|ids| ids.len()))
}

/// Returns the ids of the group's members, or `None` during a rebalance. A member that was expelled
/// has another id once it joins again.
pub(crate) fn member_ids(settings: &Settings) -> Result<Option<Vec<String>>, Error> {
    block_in_place(|| {
        let groups = watcher(settings)?.fetch_group_list(Some(GROUP), ASK)?;
        let stable = groups.groups().iter().find(|it| it.name() == GROUP && it.state() == "Stable");
        Ok(stable.map(|group| group.members().iter().map(|it| it.id().to_owned()).collect()))
    })
}

/// Returns the number of partitions of each member of the group, in ascending order.
pub(crate) fn shares(settings: &Settings) -> Result<Vec<usize>, Error> {
    block_in_place(|| {
        let groups = watcher(settings)?.fetch_group_list(Some(GROUP), ASK)?;
        let group = groups.groups().iter().find(|group| group.name() == GROUP);
        let members = group.map_or(&[][..], |group| group.members());
        let share = |member: &GroupMemberInfo| {
            let assigned = assigned(member.assignment().unwrap_or_default()).unwrap_or_default();
            assigned
                .into_iter()
                .filter(|(topic, _)| topic == READ_BY_BILLING[0])
                .map(|it| it.1)
                .sum()
        };
        let mut shares: Vec<_> = members.iter().map(share).collect();
        shares.sort_unstable();
        Ok(shares)
    })
}

/// Parses an assignment of the consumer protocol: the version, then an array of topics with their
/// partitions. Returns the number of partitions of each topic, or `None` if it is malformed.
fn assigned(mut bytes: &[u8]) -> Option<Vec<(String, usize)>> {
    take::<2>(&mut bytes)?;
    let topics = i32::from_be_bytes(take(&mut bytes)?);
    let topic = |_| {
        let length = i16::from_be_bytes(take(&mut bytes)?).try_into().ok()?;
        let name = bytes.split_off(..length)?;
        let partitions = i32::from_be_bytes(take(&mut bytes)?).try_into().ok()?;
        bytes.split_off(..4 * partitions)?;
        Some((String::from_utf8_lossy(name).into_owned(), partitions))
    };
    (0..topics).map(topic).collect()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// Writes arbitrary records, as any client could.
pub(crate) struct Writer {
    producer: FutureProducer,
}

impl Writer {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { producer: settings.producer().create()? })
    }

    /// Writes a record and returns its position.
    pub(crate) async fn write(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<RecordPosition, Error> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(client_headers(headers));
        record.key = key;
        record.payload = value;
        let sent = tokio::time::timeout(READ, self.producer.send(record, Timeout::Never)).await?;
        let delivery = sent.map_err(|(error, _)| error)?;
        Ok((topic.to_owned(), delivery.partition, delivery.offset))
    }
}
