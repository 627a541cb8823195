//! Reads and writes records by an operator's hand. Nothing here joins a group or commits an offset.

use std::time::Duration;

use kafka::{
    Record, Settings, client_headers,
    rdkafka::producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::task::block_in_place;

use crate::error::Error;

/// How long a topic may take to be read, and a record to be acknowledged.
const LIMIT: Duration = Duration::from_secs(20);
/// How long Kafka may take to answer one request.
const ANSWER: Duration = Duration::from_secs(3);

/// Returns the records that a topic holds at this moment. `topic` is the name on the cluster.
pub(crate) fn all(settings: &Settings, topic: &str) -> Result<Vec<Record>, Error> {
    Ok(block_in_place(|| kafka::read_to_end(settings, topic, LIMIT))?)
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
