use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
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
        span.is_valid().then(|| Self::of_span_context(&span))
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
        if let Some(linked) = self.span_context() {
            span.add_link(linked);
        }
    }

    /// Returns the context of the span, or `None` if this one is invalid.
    pub(crate) fn span_context(&self) -> Option<SpanContext> {
        let context = self.to_otel().span().span_context().clone();
        context.is_valid().then_some(context)
    }

    pub(crate) fn of_span_context(span: &SpanContext) -> Self {
        let state = span.trace_state().header();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        let traceparent = format!("00-{trace}-{id}-{flags:02x}");
        Self { traceparent, tracestate: (!state.is_empty()).then_some(state) }
    }

    pub(crate) fn to_otel(&self) -> Context {
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
