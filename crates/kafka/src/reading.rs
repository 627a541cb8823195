use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::{Record, Settings};

/// How long the cluster may take to answer one request.
const ANSWER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// A topic that could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the topic {topic} could not be read to its end within {within:?}: {records} records were read"
)]
pub struct ReadError {
    topic: String,
    within: Duration,
    records: usize,
    /// The last error of the client, if there was one.
    source: Option<Box<KafkaError>>,
}

/// Reads what a topic holds at this moment, by partition and offset. `topic` is the name on the cluster. Joins no group and
/// commits nothing. Blocks the thread for up to `within`.
///
/// Ends at the end of each partition, whatever is there: not every offset is a record, since the markers of transactions
/// have offsets, and compaction removes records. What a transaction has written that is still open is not read.
///
/// # Errors
/// If the topic does not exist, the cluster does not answer, or `within` is over.
pub fn read_to_end(
    settings: &Settings,
    topic: &str,
    within: Duration,
) -> Result<Vec<Record>, ReadError> {
    let deadline = Instant::now() + within;
    let failed = |records, source: Option<KafkaError>| {
        let source = source.map(Box::new);
        ReadError { topic: topic.to_owned(), within, records, source }
    };
    let consumer = reader(settings).map_err(|error| failed(0, Some(error)))?;
    let mut left = assign(&consumer, topic).map_err(|error| failed(0, Some(error)))?;
    let (mut records, mut last_error) = (Vec::new(), None);
    while !left.is_empty() {
        if Instant::now() > deadline {
            return Err(failed(records.len(), last_error));
        }
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                let partition = message.partition();
                let Some(end) = left.get(&partition).copied() else { continue };
                if message.offset() < end {
                    records.push(Record::from_message(&message));
                }
                if message.offset() + 1 >= end {
                    left.remove(&partition);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = left.remove(&partition),
            // The client goes on by itself.
            Some(Err(error)) => last_error = Some(error),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

fn reader(settings: &Settings) -> Result<BaseConsumer, KafkaError> {
    let mut config = settings.client();
    config
        .set("group.id", settings.prefixed("reader"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false");
    config.create()
}

/// Assigns all partitions from their beginning, and returns the end of each that is not empty.
fn assign(consumer: &BaseConsumer, topic: &str) -> Result<HashMap<i32, i64>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    // Dropped before the consumer is: a list that is alive would keep that drop from returning.
    let mut assigned = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        assigned.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), ANSWER)?;
        if low < high {
            ends.insert(partition.id(), high);
        }
    }
    consumer.assign(&assigned)?;
    Ok(ends)
}
