use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue};

use super::draft::Draft;
use super::steps::FlowSteps;
use crate::{TraceContext, init, span_ids};

/// Name of the span of an event that waited in the outbox.
const WAIT: &str = "outbox wait";

/// An event that a relay is about to send.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingEvent<'a> {
    /// Topic, without the prefix.
    pub topic: &'a str,
    /// Key of the record.
    pub key: &'a str,
    /// Id of the event.
    pub event_id: Option<&'a str>,
    /// Type of the event.
    pub event_type: Option<&'a str>,
    /// Publisher of the event.
    pub source: Option<&'a str>,
    /// Subject of the event.
    pub subject: Option<&'a str>,
    /// Tenant of the event.
    pub tenant_id: Option<&'a str>,
    /// Correlation id of the event. A publication is a step of a flow only if there is one.
    pub correlation_id: Option<&'a str>,
    /// The span that created the event.
    pub created_in: Option<&'a TraceContext>,
    /// When the event was written to the outbox.
    pub written: SystemTime,
    /// When the relay read the event.
    pub read: SystemTime,
}

/// The publication of an event, from its sending until Kafka's answer: a span if spans are
/// exported, and a step of the event's flow, each with the event's wait in the outbox.
///
/// Dropping it ends it without an answer, and forgets its step if the client has not accepted the
/// record, which is then sent later, as another publication. It is not a span of `tracing`, whose
/// registry would cost a relay more than the rest of the publication.
#[derive(Debug)]
pub struct Publication {
    span: Option<BoxedSpan>,
    /// The span of the wait before, until the client has accepted the record.
    wait: Option<Box<Wait>>,
    context: SpanContext,
    step: Option<Draft>,
    is_accepted: bool,
}

impl Publication {
    /// Begins the publication of an event, which is a step of `steps`.
    pub fn begin(event: &OutgoingEvent<'_>, steps: &FlowSteps) -> Self {
        Self::new(event, steps, init::exports_spans())
    }

    fn new(event: &OutgoingEvent<'_>, steps: &FlowSteps, exports_spans: bool) -> Self {
        // A span has no ids once the exporter is shut down.
        let span = exports_spans.then(|| event.span());
        let span = span.filter(|span| span.span_context().is_valid());
        let context = match &span {
            Some(span) => span.span_context().clone(),
            None => span_ids::child_of(event.created_in.and_then(TraceContext::span_context)),
        };
        let wait = span.as_ref().and_then(|_| event.wait());
        Self { span, wait, context, step: event.step(steps), is_accepted: false }
    }

    /// Returns whether it is a span or a step. Otherwise its end is of no consequence.
    pub fn is_observed(&self) -> bool {
        self.span.is_some() || self.step.is_some()
    }

    /// Returns the context for the record's headers.
    pub fn trace_context(&self) -> TraceContext {
        TraceContext::of_span_context(&self.context)
    }

    /// Records that the client has accepted the record, and exports the event's wait in the outbox.
    pub fn accepted(&mut self) {
        self.is_accepted = true;
        if let Some(wait) = self.wait.take() {
            wait.export();
        }
    }

    /// Ends it with the position that Kafka has acknowledged.
    pub fn acknowledged(mut self, partition: i32, offset: i64) {
        if let Some(span) = &mut self.span {
            let partition =
                KeyValue::new("messaging.destination.partition.id", partition.to_string());
            span.set_attributes([partition, KeyValue::new("messaging.kafka.offset", offset)]);
        }
        if let Some(step) = &mut self.step {
            step.add("partition", partition);
            step.add("offset", offset);
        }
    }

    /// Ends it with the reason why the record is not confirmed to be in Kafka. `error_type` is the
    /// kind of the error, for the attribute `error.type`.
    pub fn refused(mut self, error: &(dyn Error + 'static), error_type: String) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new("error.type", error_type));
            span.record_error(error);
            span.set_status(Status::error(crate::error_chain(error)));
        }
        self.is_accepted = true;
        if let Some(step) = &mut self.step {
            step.fail(error);
        }
    }
}

impl Drop for Publication {
    /// Stores the step. The span ends when it is dropped.
    fn drop(&mut self) {
        if let Some(step) = self.step.take().filter(|_| self.is_accepted) {
            step.finish(Some(&self.context.trace_id().to_string()));
        }
    }
}

/// A span that is not begun yet.
#[derive(Debug)]
struct Wait {
    span: SpanBuilder,
    parent: Context,
    ended: SystemTime,
}

impl Wait {
    fn export(self) {
        let tracer = global::tracer(crate::TRACER);
        self.span.start_with_context(&tracer, &self.parent).end_with_timestamp(self.ended);
    }
}

impl OutgoingEvent<'_> {
    /// Returns the span that created the event, as a parent.
    fn parent(&self) -> Context {
        self.created_in.map_or_else(Context::new, TraceContext::to_otel)
    }

    /// Returns the span of the wait in the outbox. An event that no span has created has none.
    fn wait(&self) -> Option<Box<Wait>> {
        let parent = self.parent();
        if !parent.span().span_context().is_valid() {
            return None;
        }
        let ids = [("event_id", self.event_id), ("correlation_id", self.correlation_id)];
        let span = SpanBuilder::from_name(WAIT).with_start_time(self.written.min(self.read));
        let span = span.with_attributes(known(ids));
        Some(Box::new(Wait { span, parent, ended: self.read }))
    }

    /// Begins the span of the publication, by the semantic conventions for messaging
    /// (<https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>).
    fn span(&self) -> BoxedSpan {
        let tracer = global::tracer(crate::TRACER);
        let attributes = known([
            ("messaging.system", Some("kafka")),
            ("messaging.operation.name", Some("send")),
            ("messaging.operation.type", Some("send")),
            ("messaging.destination.name", Some(self.topic)),
            ("messaging.message.id", self.event_id),
            ("messaging.message.conversation_id", self.correlation_id),
            ("messaging.kafka.message.key", Some(self.key)),
            ("cloudevents.event_type", self.event_type),
            ("cloudevents.event_source", self.source),
            ("cloudevents.event_subject", self.subject),
            ("event_id", self.event_id),
            ("correlation_id", self.correlation_id),
            ("tenant_id", self.tenant_id),
        ]);
        let span = tracer.span_builder(format!("send {}", self.topic));
        let span = span.with_kind(SpanKind::Producer).with_attributes(attributes);
        span.start_with_context(&tracer, &self.parent())
    }

    fn step(&self, steps: &FlowSteps) -> Option<Draft> {
        let (buffer, correlation_id) = (steps.buffer()?, self.correlation_id?);
        let mut step = Draft::new(Arc::clone(buffer), "publish");
        if step.is_lost() {
            return Some(step);
        }
        step.correlation_id = Some(correlation_id.to_owned());
        step.event_id = self.event_id.map(str::to_owned);
        step.subject = self.subject.map(str::to_owned);
        step.add_text("name", &format!("send {}", self.topic));
        step.add_text("topic", self.topic);
        for (name, text) in [("event_type", self.event_type), ("source", self.source)] {
            if let Some(text) = text {
                step.add_text(name, text);
            }
        }
        step.add_outbox_wait(self.written, self.read);
        Some(step)
    }
}

fn known<const N: usize>(texts: [(&'static str, Option<&str>); N]) -> Vec<KeyValue> {
    let known = texts.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
    known.map(|(name, text)| KeyValue::new(name, text)).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use serde_json::Value;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn created_in() -> TraceContext {
        TraceContext::new(format!("00-{TRACE}-00f067aa0ba902b7-01"), Some("vendor=1"))
    }

    fn event(created_in: &TraceContext) -> OutgoingEvent<'_> {
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        OutgoingEvent {
            topic: "parcels",
            key: "P-17",
            event_id: Some("e-1"),
            event_type: Some("parcel.packed"),
            source: None,
            subject: Some("P-17"),
            tenant_id: None,
            correlation_id: Some("c-1"),
            created_in: Some(created_in),
            written,
            read: written + Duration::from_millis(3),
        }
    }

    fn taken(steps: &FlowSteps) -> Value {
        let mut taken = steps.take(9);
        assert_eq!(taken.len(), 1);
        serde_json::from_str(&taken.remove(0).json).expect("JSON")
    }

    #[test]
    fn a_publication_is_a_step_with_its_wait_and_its_position() {
        let (steps, created_in) = (FlowSteps::new(9), created_in());
        let mut publication = Publication::begin(&event(&created_in), &steps);
        publication.accepted();
        assert_eq!(steps.waiting(), 0, "Kafka has not answered");
        publication.acknowledged(3, 17);
        let step = taken(&steps);
        assert_eq!((&step["kind"], &step["name"]), (&"publish".into(), &"send parcels".into()));
        assert_eq!((&step["partition"], &step["offset"]), (&3.into(), &17.into()));
        assert_eq!((&step["event_id"], &step["trace_id"]), (&"e-1".into(), &TRACE.into()));
        let wait = &step["outbox_wait"];
        assert_eq!((&wait["at_us"], &wait["duration_us"]), (&7_000_000.into(), &3_000.into()));
    }

    #[derive(Clone, Debug, Default)]
    struct Exported(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Exported {
        async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("no panic").extend(spans);
            Ok(())
        }
    }

    #[test]
    fn an_exported_publication_and_its_wait_are_spans_of_the_event_s_trace() {
        let exported = Exported::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
        global::set_tracer_provider(provider);
        let created_in = created_in();
        let event = event(&created_in);
        let mut publication = Publication::new(&event, &FlowSteps::off(), true);
        let hop = publication.trace_context();
        assert_eq!(hop.tracestate.as_deref(), Some("vendor=1"));
        publication.accepted();
        publication.refused(&io::Error::other("too large"), "too_large".into());

        let spans = exported.0.lock().expect("no panic");
        let [wait, send] = &spans[..] else { panic!("{spans:?}") };
        for span in [wait, send] {
            assert_eq!(span.span_context.trace_id().to_string(), TRACE);
            assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
            assert!(span.attributes.contains(&KeyValue::new("event_id", "e-1")));
        }
        assert_eq!((&*wait.name, &*send.name), (WAIT, "send parcels"));
        assert_eq!(wait.end_time, wait.start_time + Duration::from_millis(3));
        let id = send.span_context.span_id().to_string();
        assert!(hop.traceparent.contains(&id), "{hop:?} is the context of the exported span");
        assert_eq!(send.status, Status::error("too large"));
        assert!(send.attributes.contains(&KeyValue::new("error.type", "too_large")));
    }

    #[test]
    fn a_refused_publication_shows_the_reason_and_one_without_an_answer_none() {
        let (steps, created_in) = (FlowSteps::new(9), created_in());
        let refusal = io::Error::other("too large");
        Publication::begin(&event(&created_in), &steps).refused(&refusal, "too_large".into());
        assert_eq!(taken(&steps)["error"], "too large");
        drop(Publication::begin(&event(&created_in), &steps));
        assert_eq!(steps.waiting(), 0, "it is sent later");
        Publication::begin(&event(&created_in), &steps).accepted();
        let step = taken(&steps);
        assert_eq!((step.get("error"), step.get("offset")), (None, None));
    }

    #[test]
    fn the_record_continues_the_trace_of_the_event() {
        let steps = FlowSteps::off();
        let created_in = created_in();
        let hop = Publication::begin(&event(&created_in), &steps).trace_context();
        assert!(hop.traceparent.starts_with(&format!("00-{TRACE}-")), "{hop:?}");
        assert_ne!(hop.traceparent, created_in.traceparent, "it is another span");
        assert_eq!(hop.tracestate.as_deref(), Some("vendor=1"));

        let unknown = OutgoingEvent { created_in: None, ..event(&created_in) };
        let root = Publication::begin(&unknown, &steps).trace_context();
        assert!(root.traceparent.ends_with("-01"), "a new trace is sampled: {root:?}");
    }

    #[test]
    fn an_event_without_a_correlation_id_is_no_step() {
        let (steps, created_in) = (FlowSteps::new(9), created_in());
        let event = OutgoingEvent { correlation_id: None, ..event(&created_in) };
        let mut publication = Publication::begin(&event, &steps);
        publication.accepted();
        publication.acknowledged(0, 0);
        assert_eq!((steps.waiting(), steps.lost()), (0, 0));
    }
}
