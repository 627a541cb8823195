//! Reads records of a topic without joining a group, committing an offset or creating a topic.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::metadata::MetadataPartition;
use kafka::rdkafka::{Offset, TopicPartitionList};
use kafka::{Record, Settings};
use tokio::task::block_in_place;

use super::ForeignLetter;
use crate::error::Error;

/// Time limit for reading a topic.
const LIMIT: Duration = Duration::from_secs(30);
/// Time limit of one request to Kafka.
const ANSWER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// Returns the newest letters of a topic, newest first, up to a number. Reads that number from each
/// partition.
pub(crate) fn newest(
    settings: &Settings,
    topic: &str,
    most: usize,
) -> Result<Vec<ForeignLetter>, Error> {
    block_in_place(|| {
        let consumer = consumer(settings)?;
        let mut starts = Vec::new();
        for partition in partitions(&consumer, topic)? {
            let (low, high) = watermarks(&consumer, topic, partition)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            starts.push((partition, low.max(high.saturating_sub(most)), high));
        }
        let mut records = read(&consumer, topic, &starts)?;
        records.sort_by_key(|record| (record.timestamp, record.offset));
        Ok(records.into_iter().rev().take(most).map(ForeignLetter::read).collect())
    })
}

/// Returns the letter at that offset. Returns `None` if there is no record.
pub(crate) fn at(
    settings: &Settings,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Option<ForeignLetter>, Error> {
    block_in_place(|| {
        let consumer = consumer(settings)?;
        if !partitions(&consumer, topic)?.contains(&partition) {
            return Ok(None);
        }
        let (low, high) = watermarks(&consumer, topic, partition)?;
        if offset < low || offset >= high {
            return Ok(None);
        }
        let records = read(&consumer, topic, &[(partition, offset, offset + 1)])?;
        Ok(records.into_iter().next().map(ForeignLetter::read))
    })
}

fn consumer(settings: &Settings) -> Result<BaseConsumer, Error> {
    let mut config = settings.client();
    config
        .set("group.id", "orderflow-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false");
    config.create().map_err(Error::kafka("configure the Kafka client"))
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, Error> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER);
    let metadata = metadata.map_err(Error::kafka("connect to Kafka"))?;
    let found = metadata.topics().iter().find(|it| it.name() == topic);
    let found = found.filter(|it| !it.partitions().is_empty());
    let found = found.ok_or_else(|| {
        Error::Refused(format!(
            "there is no topic {topic}, or it may not be read; see --topic and --brokers"
        ))
    })?;
    Ok(found.partitions().iter().map(MetadataPartition::id).collect())
}

fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
    let watermarks = consumer.fetch_watermarks(topic, partition, ANSWER);
    watermarks.map_err(Error::kafka(format!("find the ends of {topic}/{partition}")))
}

/// Reads each partition from one offset up to another. Not every offset has a record: markers of
/// transactions have offsets, and compaction removes records.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    ranges: &[(i32, i64, i64)],
) -> Result<Vec<Record>, Error> {
    let doing = format!("read {topic}");
    let ranges = ranges.iter().filter(|(_, start, end)| start < end);
    let ends: Vec<_> = ranges.clone().map(|(partition, _, end)| (*partition, *end)).collect();
    // Dropping the consumer blocks forever while a list is alive.
    {
        let mut list = TopicPartitionList::new();
        for (partition, start, _) in ranges {
            list.add_partition_offset(topic, *partition, Offset::Offset(*start))
                .map_err(Error::kafka(&*doing))?;
        }
        consumer.assign(&list).map_err(Error::kafka(&*doing))?;
    }
    let end_of = |of: i32| ends.iter().find(|(partition, _)| *partition == of).map(|(_, end)| *end);
    let mut left: BTreeSet<_> = ends.iter().map(|(partition, _)| *partition).collect();
    let (mut records, mut last_error) = (Vec::new(), None);
    let deadline = Instant::now() + LIMIT;
    while !left.is_empty() {
        if Instant::now() > deadline {
            let doing = format!("{doing} within {LIMIT:?}; {} records were read", records.len());
            let source = last_error.unwrap_or(KafkaError::NoMessageReceived);
            return Err(Error::Kafka { doing, source });
        }
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                let record = Record::from_message(&message);
                let Some(end) = end_of(record.partition) else { continue };
                if record.offset + 1 >= end {
                    left.remove(&record.partition);
                }
                if record.offset < end {
                    records.push(record);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = left.remove(&partition),
            // The client retries by itself.
            Some(Err(error)) => last_error = Some(error),
        }
    }
    Ok(records)
}
