use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::{Record, Settings};

/// Time limit of one request to the cluster.
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

impl ReadError {
    /// Returns whether the topic does not exist.
    pub fn is_missing_topic(&self) -> bool {
        let code = self.source.as_ref().and_then(|it| it.rdkafka_error_code());
        code.is_some_and(|code| {
            matches!(
                code,
                RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        })
    }
}

/// Reads the current content of a topic, by partition and offset. `topic` is the name on the
/// cluster. Joins no group and commits nothing. Blocks the thread for up to `within`.
///
/// Stops at the end of each partition, even if the last offsets are not records, since transaction
/// markers have offsets and compaction removes records. Records of open transactions are not read.
///
/// # Errors
/// Fails if the topic does not exist, the cluster does not answer, or `within` has passed.
pub fn read_to_end(
    settings: &Settings,
    topic: &str,
    within: Duration,
) -> Result<Vec<Record>, ReadError> {
    let reading = Reading { topic, within, from: &[], max_bytes: usize::MAX };
    let (mut records, _) = reading.read(settings)?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Records, and the next offset of each partition that was read.
pub type Part = (Vec<Record>, Vec<(i32, i64)>);

/// Reads a part of a topic: from the given offset of each partition, or its beginning, up to
/// `max_bytes` of records or the end. Returns an empty part if there is nothing more. See
/// [`read_to_end`].
///
/// # Errors
/// Fails if the topic does not exist, the cluster does not answer, or `within` has passed.
pub fn read_part(
    settings: &Settings,
    topic: &str,
    from: &[(i32, i64)],
    max_bytes: usize,
    within: Duration,
) -> Result<Part, ReadError> {
    Reading { topic, within, from, max_bytes }.read(settings)
}

struct Reading<'a> {
    topic: &'a str,
    within: Duration,
    from: &'a [(i32, i64)],
    max_bytes: usize,
}

impl Reading<'_> {
    fn read(&self, settings: &Settings) -> Result<Part, ReadError> {
        let deadline = Instant::now() + self.within;
        let consumer = reader(settings).map_err(|error| self.failed(0, Some(error)))?;
        let mut left = self.assign(&consumer).map_err(|error| self.failed(0, Some(error)))?;
        let (mut records, mut bytes, mut last_error) = (Vec::new(), 0, None);
        let mut next = BTreeMap::new();
        while !left.is_empty() && bytes < self.max_bytes {
            if Instant::now() > deadline {
                return Err(self.failed(records.len(), last_error));
            }
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = left.get(&partition).copied() else { continue };
                    if offset < end {
                        let record = Record::from_message(&message);
                        bytes += record.size();
                        records.push(record);
                    }
                    next.insert(partition, (offset + 1).min(end));
                    if offset + 1 >= end {
                        left.remove(&partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(end) = left.remove(&partition) {
                        next.insert(partition, end);
                    }
                }
                // The client recovers by itself.
                Some(Err(error)) => last_error = Some(error),
            }
        }
        Ok((records, next.into_iter().collect()))
    }

    fn failed(&self, records: usize, source: Option<KafkaError>) -> ReadError {
        let (topic, within, source) = (self.topic.to_owned(), self.within, source.map(Box::new));
        ReadError { topic, within, records, source }
    }

    /// Assigns all partitions, and returns the end of each partition with records to read.
    fn assign(&self, consumer: &BaseConsumer) -> Result<HashMap<i32, i64>, KafkaError> {
        let metadata = consumer.fetch_metadata(Some(self.topic), ANSWER)?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        // Dropped before the consumer, because a remaining list makes the consumer's drop hang.
        let mut assigned = TopicPartitionList::new();
        let mut ends = HashMap::new();
        for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
            let id = partition.id();
            let (low, high) = consumer.fetch_watermarks(self.topic, id, ANSWER)?;
            let from = self.from.iter().find(|(it, _)| *it == id).map(|(_, offset)| *offset);
            // An offset beyond the end: the topic was created again.
            let from = from.filter(|from| (low..=high).contains(from)).unwrap_or(low);
            if from < high {
                assigned.add_partition_offset(self.topic, id, Offset::Offset(from))?;
                ends.insert(id, high);
            }
        }
        consumer.assign(&assigned)?;
        Ok(ends)
    }
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
