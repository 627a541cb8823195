use std::sync::Arc;
use std::time::Duration;

use envelope::TenantId;
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Coordinates, DeadLetter, Headers, Reason, Record, Settings, dead_letter_topic};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::history::Histories;
use crate::instruments::Instruments;
use crate::message::Taken;
use crate::replay::Replay;
use crate::status::Status;

/// How long one attempt to write may take before it is made again, and logged.
const WRITE_TIMEOUT: &str = "5000";
const BACKOFF: Duration = Duration::from_secs(1);
/// How long the note of a replay's outcome may take.
const NOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing is consumed.
pub(crate) const HALTED: &str = "a dead letter can't be written";

/// Writes what a group could not process to `<group>.dlq`.
pub(crate) struct DeadLetters {
    producer: FutureProducer,
    /// Name on the cluster.
    topic: String,
    /// With the prefix.
    group_on_cluster: String,
    /// Without the prefix.
    group: String,
    pool: PgPool,
    histories: Arc<Histories>,
    instruments: Instruments,
    status: Status,
}

impl DeadLetters {
    pub(crate) fn new(
        kafka: &Settings,
        group: &str,
        pool: PgPool,
        histories: Arc<Histories>,
        instruments: Instruments,
        status: Status,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: kafka
                .producer()
                .set("message.timeout.ms", WRITE_TIMEOUT)
                // A twin has the same identity, and an idempotent producer can fail for good.
                .set("enable.idempotence", "false")
                // The topics' limits are on what is compressed: what came in compressed must fit again.
                .set("compression.type", "gzip")
                .create()?,
            topic: kafka.prefixed(&dead_letter_topic(group).name),
            group_on_cluster: kafka.prefixed(group),
            group: group.to_owned(),
            pool,
            histories,
            instruments,
            status,
        })
    }

    /// Writes a message to the dead letters, however long it takes: until Kafka has acknowledged it nothing more is
    /// consumed, since the message's offset must not move. Returns `false` if shutdown came first.
    pub(crate) async fn write_through(
        &self,
        taken: &Taken,
        reason: Reason,
        shutdown: &CancellationToken,
    ) -> bool {
        let writing = async {
            log(taken, &reason);
            let why = reason.message.clone();
            let origin = taken.replay.as_ref().map(Replay::origin).cloned();
            let origin = origin.unwrap_or_else(|| Coordinates::of(taken.record()));
            let letter = DeadLetter { origin, group: self.group_on_cluster.clone(), reason };
            let headers = letter.headers(taken.record());
            if !self.write(taken.record(), &headers, shutdown).await {
                return false;
            }
            sabotage::may_die("consumer.buried");
            self.instruments.dead_lettered();
            if let Some(replay) = &taken.replay {
                self.note_outcome(replay, &why).await;
            }
            if taken.retries > 0 || taken.history.is_cautious() {
                self.forget_attempts(taken.record()).await;
            }
            true
        };
        writing.instrument(taken.span.clone()).await
    }

    async fn write(
        &self,
        record: &Record,
        headers: &Headers,
        shutdown: &CancellationToken,
    ) -> bool {
        let headers = kafka::client_headers(headers);
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
            halted.get_or_insert_with(|| self.status.halt(HALTED));
            tracing::error!(
                error = &error as &dyn std::error::Error,
                topic = self.topic,
                "dead letter not written, nothing is consumed until it is"
            );
            tokio::select! {
                () = tokio::time::sleep(BACKOFF) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// Tells the operator that a replay is a dead letter again. It is one whether this is written or not.
    async fn note_outcome(&self, replay: &Replay, reason: &str) {
        let noted = replay.in_vain(&self.pool, &self.group, "failed", reason);
        let error: Box<dyn std::error::Error> =
            match tokio::time::timeout(NOTE_TIMEOUT, noted).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.into(),
                Err(elapsed) => elapsed.into(),
            };
        tracing::warn!(error = &*error, "outcome of a replay not noted");
    }

    /// A row that stays is of no harm: its offset does not come again.
    async fn forget_attempts(&self, record: &Record) {
        if let Err(error) = self.histories.forget(record).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "attempts at a dead letter are still noted");
        }
    }
}

fn log(taken: &Taken, reason: &Reason) {
    let record = taken.record();
    let envelope = taken.envelope();
    Span::current().record("error.type", reason.exception.as_str());
    Span::current().record("otel.status_code", "ERROR");
    tracing::error!(
        reason = reason.message,
        topic = record.topic,
        partition = record.partition,
        offset = record.offset,
        event_id = envelope.map(|it| it.id.as_str()).or_else(|| record.text_header("ce_id")),
        correlation_id = envelope
            .map(|it| it.correlation_id.as_str())
            .or_else(|| record.text_header("ce_correlationid")),
        tenant_id = envelope
            .and_then(|it| it.tenant_id.as_ref())
            .map(TenantId::as_str)
            .or_else(|| record.text_header("ce_tenantid")),
        "dead-lettered message"
    );
}
