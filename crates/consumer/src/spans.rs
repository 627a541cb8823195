//! The spans of messages and batches.

use std::collections::BTreeSet;

use envelope::{Envelope, TenantId};
use kafka::Record;
use telemetry::{FlowSteps, TraceContext};
use tracing::{Span, field};
use uuid::Uuid;

use crate::message::Taken;

/// Creates the span of a record: a child of the span in which its event was created, linked to the
/// hop. `topic` is without the prefix.
pub(crate) fn of_record(
    record: &Record,
    envelope: Option<&Envelope>,
    topic: &str,
    group: &str,
    steps: &FlowSteps,
) -> Span {
    let span = steps.span(|| unconnected(record, envelope, topic, group, None));
    let (created_in, hop) = contexts(record, envelope);
    if let Some(created_in) = created_in.as_ref().or(hop.as_ref()) {
        created_in.set_parent(&span);
    }
    if let Some(hop) = hop {
        hop.link(&span);
    }
    span
}

/// A letter as a part of a replay.
#[derive(Clone, Copy)]
pub(crate) struct Replayed<'a> {
    pub(crate) replay: Uuid,
    pub(crate) letter: Uuid,
    pub(crate) steps: &'a FlowSteps,
}

/// Creates the span of a replayed dead letter: a new trace, linked to the span in which the event
/// was created and to the hop.
pub(crate) fn of_replay(
    record: &Record,
    envelope: Option<&Envelope>,
    topic: &str,
    group: &str,
    replayed: &Replayed<'_>,
) -> Span {
    let of_letter = || unconnected(record, envelope, topic, group, Some(replayed));
    let span = replayed.steps.span(of_letter);
    let (created_in, hop) = contexts(record, envelope);
    for context in [created_in, hop].into_iter().flatten() {
        context.link(&span);
    }
    span
}

fn contexts(
    record: &Record,
    envelope: Option<&Envelope>,
) -> (Option<TraceContext>, Option<TraceContext>) {
    let created_in = envelope
        .and_then(|it| Some(TraceContext::new(it.traceparent.as_ref()?, it.tracestate.as_deref())));
    let hop = record
        .text_header("traceparent")
        .map(|parent| TraceContext::new(parent, record.text_header("tracestate")));
    (created_in, hop)
}

fn unconnected(
    record: &Record,
    envelope: Option<&Envelope>,
    topic: &str,
    group: &str,
    replayed: Option<&Replayed<'_>>,
) -> Span {
    tracing::info_span!(
        parent: None,
        "process",
        otel.name = format!("process {topic}"),
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.destination.name = topic,
        messaging.destination.partition.id = record.partition.to_string(),
        messaging.kafka.offset = record.offset,
        messaging.consumer.group.name = group,
        messaging.message.id = envelope.map(|it| it.id.as_str()),
        messaging.message.conversation_id = envelope.map(|it| it.correlation_id.as_str()),
        cloudevents.event_type = envelope.map(|it| it.event_type.as_str()),
        cloudevents.event_source = envelope.map(|it| it.source.as_str()),
        cloudevents.event_subject = envelope.and_then(|it| it.subject.as_deref()),
        replay_id = replayed.map(|it| it.replay.to_string()),
        letter_id = replayed.map(|it| it.letter.to_string()),
        outcome = field::Empty,
        error = field::Empty,
        event_id = envelope.map(|it| it.id.as_str()),
        correlation_id = envelope.map(|it| it.correlation_id.as_str()),
        tenant_id = envelope.and_then(|it| it.tenant_id.as_ref()).map(TenantId::as_str),
        error.r#type = field::Empty,
    )
}

/// Creates the span of a batch, linked to those of its messages.
pub(crate) fn of_batch(taken: &[Taken], group: &str) -> Span {
    let topics: BTreeSet<_> = taken.iter().map(|it| it.record().topic.as_str()).collect();
    let topics = topics.into_iter().collect::<Vec<_>>().join(", ");
    let span = tracing::info_span!(
        parent: None,
        "batch",
        otel.name = format!("process batch {topics}"),
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.batch.message_count = taken.len(),
        messaging.consumer.group.name = group,
    );
    for of_message in taken {
        telemetry::link(&span, &of_message.span);
    }
    span
}

/// Creates the span of an event from a request: a child of the request's span, linked to the span
/// in which the event was created.
pub(crate) fn of_request(envelope: &Envelope, group: &str, steps: &FlowSteps) -> Span {
    let span = steps.span(|| unlinked(envelope, group));
    if let Some(parent) = &envelope.traceparent {
        TraceContext::new(parent, envelope.tracestate.as_deref()).link(&span);
    }
    span
}

fn unlinked(envelope: &Envelope, group: &str) -> Span {
    tracing::info_span!(
        "process",
        otel.name = format!("process {}", envelope.event_type),
        otel.kind = "internal",
        messaging.message.id = envelope.id.as_str(),
        messaging.message.conversation_id = envelope.correlation_id.as_str(),
        messaging.consumer.group.name = group,
        cloudevents.event_type = envelope.event_type,
        cloudevents.event_source = envelope.source,
        cloudevents.event_subject = envelope.subject.as_deref(),
        event_id = envelope.id.as_str(),
        correlation_id = envelope.correlation_id.as_str(),
        tenant_id = envelope.tenant_id.as_ref().map(TenantId::as_str),
        outcome = field::Empty,
        error = field::Empty,
    )
}
