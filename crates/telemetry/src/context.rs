use std::time::SystemTime;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError, get_otel_context};

use crate::span_ids::{context_of, set_remote_parent};

/// W3C Trace Context, as stored in headers and rows (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// Value of the `traceparent` header.
    pub traceparent: String,
    /// Value of the `tracestate` header, if there is one.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// Creates a context from the two headers. They are validated when they are used.
    pub fn new(traceparent: impl Into<String>, tracestate: Option<&str>) -> Self {
        Self { traceparent: traceparent.into(), tracestate: tracestate.map(str::to_owned) }
    }

    /// Returns the context of the current span, or `None` outside of a span.
    pub fn current() -> Option<Self> {
        Self::of(&Span::current())
    }

    /// Returns the context of a span, or `None` if it is disabled.
    pub fn of(span: &Span) -> Option<Self> {
        let span = span.with_subscriber(|(id, dispatch)| context_of(id, dispatch)).flatten()?;
        span.is_valid().then(|| {
            let state = span.trace_state().header();
            Self {
                traceparent: format!(
                    "00-{}-{}-{:02x}",
                    span.trace_id(),
                    span.span_id(),
                    span.trace_flags().to_u8()
                ),
                tracestate: (!state.is_empty()).then_some(state),
            }
        })
    }

    /// Makes the span a child of this context. Call it before the span is entered; afterwards it
    /// has no effect. An invalid context has no effect either, since a malformed header must not
    /// fail the work.
    pub fn set_parent(&self, span: &Span) {
        let context = self.to_otel();
        let parent = context.span().span_context().clone();
        if parent.is_valid()
            && let Err(SetParentError::LayerNotFound) = span.set_parent(context)
        {
            span.with_subscriber(|(id, dispatch)| set_remote_parent(id, dispatch, parent));
        }
    }

    /// Links the span to this context, if it is valid.
    pub fn link(&self, span: &Span) {
        let context = self.to_otel();
        let linked = context.span().span_context().clone();
        if linked.is_valid() {
            span.add_link(linked);
        }
    }

    /// Records a completed wait as a span, which is a child of this context. Does nothing if the
    /// context is invalid or spans are not exported.
    pub fn record_wait(
        &self,
        name: &'static str,
        from: SystemTime,
        until: SystemTime,
        attributes: Vec<KeyValue>,
    ) {
        let context = self.to_otel();
        if context.span().span_context().is_valid() {
            let tracer = global::tracer(crate::TRACER);
            let wait = tracer.span_builder(name).with_start_time(from.min(until));
            let mut span = wait.with_attributes(attributes).start_with_context(&tracer, &context);
            span.end_with_timestamp(until);
        }
    }

    fn to_otel(&self) -> Context {
        TraceContextPropagator::new().extract_with_context(&Context::new(), self)
    }
}

/// Links a span to another one of this process. Does nothing if spans are not exported.
pub fn link(span: &Span, to: &Span) {
    let context = to.with_subscriber(|(id, dispatch)| get_otel_context(id, dispatch)).flatten();
    if let Some(context) = context {
        span.add_link(context.span().span_context().clone());
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.traceparent),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
