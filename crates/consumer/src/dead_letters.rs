use std::time::Duration;

use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Coordinates, DeadLetter, Reason, Record, Settings, Topic};
use tokio_util::sync::CancellationToken;

use crate::status::Status;

/// How long one attempt to write may take before it is tried anew, and said.
const WRITE_TIMEOUT: &str = "5000";
const BACKOFF: Duration = Duration::from_secs(1);

/// Writes what a group could not process to `<group>.dlq`.
pub(crate) struct DeadLetters {
    producer: FutureProducer,
    topic: String,
    retry_topic: String,
    group: String,
    status: Status,
}

impl DeadLetters {
    pub(crate) fn new(kafka: &Settings, group: &str, status: Status) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: kafka
                .producer()
                .set("message.timeout.ms", WRITE_TIMEOUT)
                // A twin has the same identity, and an idempotent producer can fail for good.
                .set("enable.idempotence", "false")
                // The topics' limits are on what is compressed: what came in compressed must fit again.
                .set("compression.type", "gzip")
                .set("message.max.bytes", "100000000")
                .create()?,
            topic: kafka.prefixed(&Topic::dead_letters(group).name),
            retry_topic: kafka.prefixed(&Topic::retry(group).name),
            group: kafka.prefixed(group),
            status,
        })
    }

    /// Writes one, however long it takes: until Kafka has acknowledged it nothing more is consumed, since the
    /// message's offset must not move. False: shutdown came first, and the message is not dealt with.
    pub(crate) async fn write(
        &self,
        record: &Record,
        reason: Reason,
        shutdown: &CancellationToken,
    ) -> bool {
        let dead_letter =
            DeadLetter { origin: self.origin(record), group: self.group.clone(), reason };
        let headers = kafka::client_headers(&dead_letter.headers(record));
        let mut halted = None;
        loop {
            let mut to_send: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&self.topic).headers(headers.clone());
            to_send.key = record.key.as_deref();
            to_send.payload = record.value.as_deref();
            let written = tokio::select! {
                written = self.producer.send(to_send, Timeout::Never) => written,
                () = shutdown.cancelled() => return false,
            };
            let Err((error, _)) = written else { return true };
            if halted.is_none() {
                halted = Some(self.status.halt());
            }
            tracing::error!(
                error = &error as &dyn std::error::Error,
                topic = self.topic,
                "a dead letter can't be written; nothing is consumed until it can"
            );
            tokio::select! {
                () = tokio::time::sleep(BACKOFF) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// A replay keeps the identity that it carries; anybody else's headers are not believed.
    fn origin(&self, record: &Record) -> Coordinates {
        let replayed =
            (record.topic == self.retry_topic).then(|| Coordinates::carried_by(record)).flatten();
        replayed.unwrap_or_else(|| Coordinates::of(record))
    }
}
