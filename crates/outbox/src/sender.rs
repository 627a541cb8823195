use std::sync::Arc;
use std::time::SystemTime;

use kafka::Settings;
use kafka::rdkafka::ClientContext;
use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use kafka::rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use kafka::rdkafka::producer::{
    BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer,
};
use telemetry::{FlowSteps, Publication, TraceContext};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::refusal::Refusal;
use crate::row::{Headers, Row};

/// Kafka's answer for a record.
pub(crate) struct Completion {
    /// The id of its row.
    pub(crate) id: i64,
    outcome: Result<Position, KafkaError>,
}

/// Position of a record.
#[derive(Clone, Copy)]
struct Position {
    partition: i32,
    offset: i64,
}

impl Completion {
    /// Creates a completion with an offset or an error.
    #[cfg(test)]
    pub(crate) fn of_test(id: i64, offset: Result<i64, KafkaError>) -> Self {
        Self { id, outcome: offset.map(|offset| Position { partition: 0, offset }) }
    }

    /// Ends the record's publication, if it has one. Fails with the reason why the record is not
    /// confirmed to be in Kafka.
    pub(crate) fn end(self, publication: Option<Box<Publication>>) -> Result<(), Refusal> {
        let refusal = match self.outcome {
            Ok(position) if position.offset >= 0 => {
                if let Some(publication) = publication {
                    publication.acknowledged(position.partition, position.offset);
                }
                return Ok(());
            }
            Ok(_) => Refusal::Nowhere,
            Err(error) => error.into(),
        };
        if let Some(publication) = publication {
            publication.refused(&refusal, refusal.why());
        }
        Err(refusal)
    }
}

/// Forwards completions to the relay, which bounds their number. The client's own futures would
/// return a copy of each record, which the outbox does not need.
pub(crate) struct Completions(UnboundedSender<Completion>);

impl ClientContext for Completions {}

impl ProducerContext for Completions {
    /// The bits of the row's id.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        let outcome = match result {
            Ok(record) => Ok(Position { partition: record.partition(), offset: record.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        let id = u64::try_from(id).unwrap_or(u64::MAX).cast_signed();
        _ = self.0.send(Completion { id, outcome }); // The session may have ended.
    }
}

/// The relay's producer.
pub(crate) type Client = ThreadedProducer<Completions>;

/// Passes rows to the producer of one session.
pub(crate) struct Sender {
    producer: Arc<Client>,
    kafka: Settings,
    steps: FlowSteps,
}

/// The headers and the publication of a row, prepared while other rows arrive.
pub(crate) struct Outgoing {
    headers: OwnedHeaders,
    publication: Publication,
}

/// Why a row was not passed to the producer.
pub(crate) enum SendError {
    /// The client's queue is full, which is not the row's fault.
    Full(Box<Publication>),
    Refused(Refusal),
}

impl Sender {
    pub(crate) fn new(
        kafka: &Settings,
        steps: FlowSteps,
    ) -> Result<(Self, UnboundedReceiver<Completion>), KafkaError> {
        let (completions, completed) = unbounded_channel();
        let producer = kafka.producer().create_with_context(Completions(completions))?;
        Ok((Self { producer: Arc::new(producer), kafka: kafka.clone(), steps }, completed))
    }

    /// Prepares a row, which was read at `read`, ahead of sending it. Returns `None` for a row with
    /// malformed headers, which is refused when it is sent, and if spans are exported: that of the
    /// publication begins when the row is sent.
    pub(crate) fn prepare(&self, row: &Row<'_>, read: SystemTime) -> Option<Outgoing> {
        if telemetry::exports_spans() { None } else { self.outgoing(row, read).ok() }
    }

    fn outgoing(&self, row: &Row<'_>, read: SystemTime) -> serde_json::Result<Outgoing> {
        let headers = row.headers()?;
        let created_in = headers.created_in();
        let event = row.event(&headers, created_in.as_ref(), read);
        let publication = Publication::begin(&event, &self.steps);
        let headers = of_the_record(&headers, &publication.trace_context());
        Ok(Outgoing { headers, publication })
    }

    /// Passes a row, which was read at `read`, to the producer. Returns the publication, which ends
    /// with Kafka's answer, if anybody observes it.
    pub(crate) fn send(
        &self,
        row: &Row<'_>,
        prepared: Option<Outgoing>,
        topic: &str,
        partition: i32,
        read: SystemTime,
    ) -> Result<Option<Box<Publication>>, SendError> {
        let Outgoing { headers, mut publication } = match prepared {
            Some(prepared) => prepared,
            None => self.outgoing(row, read).map_err(|error| SendError::Refused(error.into()))?,
        };
        // Negative ids, which a row inserted by hand may have, are kept, too.
        let id = usize::try_from(row.id.cast_unsigned()).unwrap_or(usize::MAX);
        let record = BaseRecord::with_opaque_to(topic, id)
            .partition(partition)
            .key(row.key)
            .payload(row.payload)
            .headers(headers);
        match self.producer.send(record) {
            Ok(()) => {
                publication.accepted();
                Ok(publication.is_observed().then(|| Box::new(publication)))
            }
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(SendError::Full(publication.into()))
            }
            Err((error, _)) => {
                let refusal = Refusal::from(error);
                publication.refused(&refusal, refusal.why());
                Err(SendError::Refused(refusal))
            }
        }
    }

    /// Returns the client, for requests to the cluster.
    pub(crate) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.producer)
    }

    /// Returns the client's settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.kafka
    }

    /// Purges all records in flight.
    pub(crate) fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    /// Returns the fatal error after which this producer will never send again, if any.
    pub(crate) fn fatal_error(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(_, reason)| reason)
    }
}

/// Returns the row's headers with the trace context of the publication.
fn of_the_record(headers: &Headers<'_>, hop: &TraceContext) -> OwnedHeaders {
    let state = hop.tracestate.as_deref().map(|state| ("tracestate", state));
    let hop = [("traceparent", hop.traceparent.as_str())].into_iter().chain(state);
    headers
        .iter()
        .chain(hop)
        .fold(OwnedHeaders::new_with_capacity(headers.len() + 2), |all, (key, value)| {
            all.insert(Header { key, value: Some(value) })
        })
}
