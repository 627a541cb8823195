//! The cluster's topics, the ends of their partitions, and groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::groups::GroupMemberInfo;
use kafka::rdkafka::metadata::MetadataPartition;
use kafka::rdkafka::topic_partition_list::TopicPartitionListElem;
use kafka::rdkafka::{Offset, TopicPartitionList};

use super::assignment;
use super::partition_lag::{Ends, TopicPartition};

/// The topics of the cluster.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// The partitions of each topic.
    pub(super) partitions: BTreeMap<String, Vec<i32>>,
    /// Partitions without a leader, or not readable for another reason.
    pub(super) leaderless: BTreeSet<TopicPartition>,
}

/// A group of the cluster.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) members: usize,
    /// Topics assigned to its members.
    pub(super) topics: BTreeSet<String>,
}

/// Creates a client that joins no group, commits nothing and creates no topic.
pub(super) fn client(settings: &Settings, group: &str) -> Result<BaseConsumer, KafkaError> {
    let mut config = settings.client();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false")
        // An open transaction blocks its readers, so messages behind it count as lag.
        .set("isolation.level", "read_uncommitted")
        // Only one record of each partition is read.
        .set("fetch.wait.max.ms", "10")
        .set("fetch.message.max.bytes", "65536")
        .set("queued.min.messages", "1")
        .set("queued.max.messages.kbytes", "1024");
    config.create()
}

/// Returns all readable topics.
pub(super) fn topics(client: &BaseConsumer, within: Duration) -> Result<Topics, KafkaError> {
    let metadata = client.fetch_metadata(None, within)?;
    let mut topics = Topics::default();
    for topic in metadata.topics().iter().filter(|it| it.error().is_none()) {
        let name = topic.name().to_owned();
        for partition in topic.partitions().iter().filter(|it| it.leader() < 0) {
            let at = TopicPartition { topic: name.clone(), partition: partition.id() };
            topics.leaderless.insert(at);
        }
        let partitions = topic.partitions().iter().map(MetadataPartition::id).collect();
        topics.partitions.insert(name, partitions);
    }
    Ok(topics)
}

/// Returns all consumer groups, or the one with this name if it exists.
pub(super) fn groups(
    client: &BaseConsumer,
    only: Option<&str>,
    within: Duration,
) -> Result<BTreeMap<String, Listed>, KafkaError> {
    let list = client.fetch_group_list(only, within)?;
    // Kafka Connect's workers and others use the same mechanism and have no offsets. A group
    // without members has no type.
    let consumers =
        list.groups().iter().filter(|it| ["consumer", ""].contains(&it.protocol_type()));
    // Kafka reports a group that does not exist as dead if it is requested by name.
    let alive = consumers.filter(|it| it.state() != "Dead");
    let groups = alive.map(|group| {
        let assigned = group.members().iter().filter_map(GroupMemberInfo::assignment);
        let topics = assigned.flat_map(assignment::topics).collect();
        (group.name().to_owned(), Listed { members: group.members().len(), topics })
    });
    Ok(groups.collect())
}

/// Returns the ends of partitions that have a leader. Partitions that could not be queried are left
/// out.
pub(super) fn ends(
    client: &BaseConsumer,
    partitions: &BTreeSet<TopicPartition>,
    within: Duration,
) -> Result<HashMap<TopicPartition, Ends>, KafkaError> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    // The low end first, because it only grows.
    let low = offsets(client, partitions, Offset::Beginning, within)?;
    let high = offsets(client, partitions, Offset::End, within)?;
    let both = low.into_iter().filter_map(|(at, low)| {
        let high = *high.get(&at)?;
        Some((at, Ends { low, high: high.max(low) }))
    });
    Ok(both.collect())
}

/// Queries all leaders concurrently. `ListOffsets` encodes the two ends as the times -2 and -1,
/// which are librdkafka's numbers too.
fn offsets(
    client: &BaseConsumer,
    partitions: &BTreeSet<TopicPartition>,
    end: Offset,
    within: Duration,
) -> Result<HashMap<TopicPartition, i64>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition_offset(topic, *partition, end)?;
    }
    let found = client.offsets_for_times(list, within)?;
    let elements = found.elements();
    let answered = elements.iter().filter(|it| it.error().is_ok());
    let offsets = answered.filter_map(|it| match it.offset() {
        Offset::Offset(offset) => Some((place(it), offset)),
        _ => None,
    });
    Ok(offsets.collect())
}

pub(super) fn place(element: &TopicPartitionListElem<'_>) -> TopicPartition {
    TopicPartition { topic: element.topic().to_owned(), partition: element.partition() }
}
