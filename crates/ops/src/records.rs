//! Reads and writes records by an operator's hand. Nothing here joins a group or commits an offset.

use std::{collections::HashMap, time::Duration};

use kafka::{
    Record, Settings, client_headers,
    rdkafka::{
        Message, Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer},
        error::KafkaError,
        metadata::MetadataTopic,
        producer::{FutureProducer, FutureRecord, Producer},
    },
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::error::Error;

/// How long a topic may take to be read, and a record to be acknowledged.
const LIMIT: Duration = Duration::from_secs(20);
/// How long Kafka may take to answer one request.
const ANSWER: Duration = Duration::from_secs(3);

/// Returns the records that a topic holds at this moment.
pub(crate) async fn all(settings: &Settings, topic: &str) -> Result<Vec<Record>, Error> {
    let mut config = settings.client();
    config.set("group.id", settings.prefixed("orderflow")).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().map_err(Error::kafka("make a client"))?;
    let reading = || Error::kafka(format!("read the topic {topic}"));
    let ends = block_in_place(|| assign_from_beginning(&consumer, topic)).map_err(reading())?;
    let mut left: i64 = ends.values().map(|(low, high)| high - low).sum();
    let mut records = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while left > 0 {
        match consumer.poll(Duration::ZERO) {
            Some(Ok(message)) => {
                // A record that was written since is not counted: it would stand for one that is still to be read.
                if ends.get(&message.partition()).is_some_and(|(_, end)| message.offset() < *end) {
                    records.push(Record::from_message(&message));
                    left -= 1;
                }
            }
            _ if Instant::now() > deadline => {
                return Err(Error::TooLate { until: format!("{topic} is read"), limit: LIMIT });
            }
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
    Ok(records)
}

/// Assigns all partitions of a topic, and returns the lowest offset and the end of each.
fn assign_from_beginning(
    consumer: &BaseConsumer,
    topic: &str,
) -> Result<HashMap<i32, (i64, i64)>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    // Dropped before the consumer is: a list that is alive would keep that drop from returning.
    let mut assigned = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        assigned.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        let marks = consumer.fetch_watermarks(topic, partition.id(), ANSWER)?;
        ends.insert(partition.id(), marks);
    }
    consumer.assign(&assigned)?;
    Ok(ends)
}

/// A producer that is connected.
pub(crate) struct Sender {
    producer: FutureProducer,
}

impl Sender {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let producer: FutureProducer =
            settings.producer().create().map_err(Error::kafka("make a producer"))?;
        // Asked for its id before there is a connection, it would try again only after 500 ms.
        let connected = block_in_place(|| producer.client().fetch_metadata(Some(""), ANSWER));
        connected.map_err(Error::kafka("connect to Kafka"))?;
        Ok(Self { producer })
    }

    /// Sends key, value and headers of a record, and waits until Kafka has acknowledged it.
    pub(crate) async fn send(&self, topic: &str, record: &Record) -> Result<(), Error> {
        let mut sent = FutureRecord::<[u8], [u8]>::to(topic);
        sent.key = record.key.as_deref();
        sent.payload = record.value.as_deref();
        sent.headers = Some(client_headers(&record.headers));
        match tokio::time::timeout(LIMIT, self.producer.send(sent, LIMIT)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((source, _))) => {
                Err(Error::Kafka { doing: format!("send a record to {topic}"), source })
            }
            Err(_) => {
                Err(Error::TooLate { until: format!("a record is in {topic}"), limit: LIMIT })
            }
        }
    }
}
