//! Positions of a group in Kafka, read without joining the group, which may have no members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::{Offset, TopicPartitionList};

use crate::error::Error;

/// Time limit of the request to Kafka.
const ANSWER: Duration = Duration::from_secs(3);

/// A partition of a topic, whose name is without `KAFKA_TOPIC_PREFIX`.
pub(crate) type PlainPartition = (String, i32);

/// Returns the committed offsets of a group in these partitions, without those in which it has
/// committed none. Names are without `KAFKA_TOPIC_PREFIX`. Blocks for at most 3 s.
pub(crate) fn positions(
    settings: &Settings,
    group: &str,
    places: &BTreeSet<PlainPartition>,
) -> Result<BTreeMap<PlainPartition, i64>, Error> {
    let mut config = settings.client();
    config.set("group.id", settings.prefixed(group)).set("enable.auto.commit", "false");
    let consumer: BaseConsumer =
        config.create().map_err(Error::kafka("configure the Kafka client"))?;
    // Dropping the consumer blocks forever while a list is alive, so both lists end in this block.
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in places {
        asked.add_partition(&settings.prefixed(topic), *partition);
    }
    let doing = format!("read the offsets of {group} from Kafka");
    let committed = consumer.committed_offsets(asked, ANSWER).map_err(Error::kafka(doing))?;
    let found = places.iter().filter_map(|place| {
        let found = committed.find_partition(&settings.prefixed(&place.0), place.1)?;
        let Offset::Offset(at) = found.offset() else { return None };
        Some((place.clone(), at))
    });
    Ok(found.collect())
}
