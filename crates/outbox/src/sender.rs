//! The way of a row to Kafka, and what became of it.

use std::time::SystemTime;

use kafka::Settings;
use kafka::rdkafka::ClientContext;
use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use kafka::rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use kafka::rdkafka::producer::{
    BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer,
};
use telemetry::{FlowSteps, TraceContext};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tracing::{Span, field};

use crate::row::{Headers, Row};

/// Where a record lies.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    partition: i32,
    offset: i64,
}

/// Where a record lies, or why it does not.
type Delivered = Result<Position, KafkaError>;
/// Comes when Kafka has answered for a record.
pub(crate) type Delivery = oneshot::Receiver<Delivered>;

/// Why a record is not known to be in Kafka.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Kafka does not take it")]
    Kafka(#[from] KafkaError),
    /// librdkafka infers the delivery of a record from that of a later one, also of one that Kafka refused
    /// (confluent-kafka-go#921). It has no offset then.
    #[error("the client takes it for delivered, and can't say where it is")]
    Nowhere,
    #[error("its row has headers that can't be read")]
    Headers(#[from] serde_json::Error),
}

/// What became of a record.
pub(crate) enum SendOutcome {
    Delivered,
    Refused(Refusal),
    /// Shutdown would not wait longer.
    Abandoned,
}

impl SendOutcome {
    pub(crate) fn of(delivered: Result<Delivered, RecvError>) -> Self {
        match delivered {
            Ok(Ok(position)) if position.offset >= 0 => {
                let span = Span::current();
                let partition = position.partition.to_string();
                span.record("messaging.destination.partition.id", partition);
                span.record("messaging.kafka.offset", position.offset);
                Self::Delivered
            }
            Ok(Ok(_)) => Self::refused(Refusal::Nowhere),
            Ok(Err(error)) => Self::refused(error.into()),
            Err(_) => Self::refused(KafkaError::Canceled.into()),
        }
    }

    fn refused(why: Refusal) -> Self {
        let span = Span::current();
        span.record("error.type", field::display(&why));
        span.record("error", &why as &dyn std::error::Error);
        Self::Refused(why)
    }
}

/// Tells of a delivery where it is awaited. The client's own futures copy the record to hand it back; the outbox has it.
struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, awaited: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(record) => Ok(Position { partition: record.partition(), offset: record.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        let _ = awaited.send(delivered); // Nobody waits any more.
    }
}

/// A producer of the relay's.
pub(crate) struct Sender {
    producer: ThreadedProducer<Deliveries>,
    kafka: Settings,
    steps: FlowSteps,
}

impl Sender {
    pub(crate) fn new(kafka: &Settings, steps: FlowSteps) -> Result<Self, KafkaError> {
        let producer = kafka.producer().create_with_context(Deliveries)?;
        Ok(Self { producer, kafka: kafka.clone(), steps })
    }

    /// Hands a row to the producer, with the span that is to last until Kafka has it.
    pub(crate) fn send(
        &self,
        row: &Row,
        selected: SystemTime,
    ) -> Result<(Delivery, Span), Refusal> {
        let headers = row.headers()?;
        let span = self.steps.span(|| span(row, &headers));
        row.record_wait(&headers, selected, &self.steps);
        let (told, delivery) = oneshot::channel();
        let topic = self.kafka.prefixed(&row.topic);
        let record = BaseRecord::with_opaque_to(&topic, Box::new(told))
            .key(&row.key)
            .payload(&row.payload)
            .headers(of_the_record(&headers, &span));
        self.producer.send(record).map_err(|(error, _)| error)?;
        Ok((delivery, span))
    }

    /// Gives up all that is under way.
    pub(crate) fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    /// Why this producer will never send again, if so.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }
}

/// The row's headers, and the context of the hop.
fn of_the_record(headers: &Headers<'_>, span: &Span) -> OwnedHeaders {
    let hop = TraceContext::of(span);
    let hop = hop.as_ref().into_iter().flat_map(|hop| {
        let state = hop.tracestate.as_deref().map(|state| ("tracestate", state));
        [("traceparent", hop.traceparent.as_str())].into_iter().chain(state)
    });
    headers
        .iter()
        .chain(hop)
        .fold(OwnedHeaders::new_with_capacity(headers.len() + 2), |all, (key, value)| {
            all.insert(Header { key, value: Some(value) })
        })
}

fn span(row: &Row, headers: &Headers<'_>) -> Span {
    let span = tracing::info_span!(
        "send",
        otel.name = format!("send {}", row.topic),
        otel.kind = "producer",
        messaging.system = "kafka",
        messaging.operation.name = "send",
        messaging.operation.r#type = "send",
        messaging.destination.name = row.topic,
        messaging.destination.partition.id = field::Empty,
        messaging.kafka.offset = field::Empty,
        messaging.message.id = headers.get("ce_id"),
        messaging.message.conversation_id = headers.get("ce_correlationid"),
        messaging.kafka.message.key = row.key,
        cloudevents.event_type = headers.get("ce_type"),
        cloudevents.event_source = headers.get("ce_source"),
        cloudevents.event_subject = headers.get("ce_subject"),
        event_id = headers.get("ce_id"),
        correlation_id = headers.get("ce_correlationid"),
        tenant_id = headers.get("ce_tenantid"),
        error = field::Empty,
        error.r#type = field::Empty,
    );
    if let Some(created_in) = headers.created_in() {
        created_in.set_parent(&span);
    }
    span
}
