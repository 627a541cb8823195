use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
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
        let Some(parent) = self.span_context() else { return };
        let context = Context::new().with_remote_span_context(parent.clone());
        if let Err(SetParentError::LayerNotFound) = span.set_parent(context) {
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
    ///
    /// The rules are those of OpenTelemetry's `TraceContextPropagator`, which allocates for each
    /// part of the header, and accepts ids that are too short.
    pub(crate) fn span_context(&self) -> Option<SpanContext> {
        let (version, rest) = self.traceparent.trim().split_once('-')?;
        let mut parts = rest.split('-');
        let (trace, id, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let is_version = version.len() == 2 && is_lower_hex(version) && version != "ff";
        // A later version may have more parts.
        let is_complete = version != "00" || parts.next().is_none();
        let are_ids = trace.len() == 32 && id.len() == 16 && flags.len() == 2;
        if !(is_version
            && is_complete
            && are_ids
            && [trace, id, flags].into_iter().all(is_lower_hex))
        {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let state = self.tracestate.as_deref().and_then(|it| TraceState::from_str(it).ok());
        let (trace, id) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(id).ok()?);
        let context = SpanContext::new(trace, id, flags, true, state.unwrap_or_default());
        context.is_valid().then_some(context)
    }

    pub(crate) fn of_span_context(span: &SpanContext) -> Self {
        let state = span.trace_state().header();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        let traceparent = format!("00-{trace}-{id}-{flags:02x}");
        Self { traceparent, tracestate: (!state.is_empty()).then_some(state) }
    }

    pub(crate) fn to_otel(&self) -> Context {
        self.span_context()
            .map_or_else(Context::new, |it| Context::new().with_remote_span_context(it))
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Links a span to another one of this process. Does nothing if spans are not exported.
pub fn link(span: &Span, to: &Span) {
    let context = to.with_subscriber(|(id, dispatch)| get_otel_context(id, dispatch)).flatten();
    if let Some(context) = context {
        span.add_link(context.span().span_context().clone());
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    use super::*;

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

    #[test]
    fn a_header_is_understood_as_by_open_telemetrys_propagator() {
        let (trace, id) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let (zeros, upper) = ("0".repeat(32), trace.to_uppercase());
        for header in [
            format!("00-{trace}-{id}-01"),
            format!("00-{trace}-{id}-00"),
            format!(" 00-{trace}-{id}-01 "),
            format!("00-{trace}-{id}-01-more"),
            format!("cc-{trace}-{id}-01-more"),
            format!("ff-{trace}-{id}-01"),
            format!("00-{upper}-{id}-01"),
            format!("00-{zeros}-{id}-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-{id}"),
            format!("00-{trace}-{id}-0x"),
            format!("0x-{trace}-{id}-01"),
            "00".to_owned(),
            String::new(),
        ] {
            for state in [None, Some("vendor=1,other=2"), Some("broken")] {
                let context = TraceContext::new(header.clone(), state);
                let propagated = TraceContextPropagator::new();
                let propagated = propagated.extract_with_context(&Context::new(), &context);
                let propagated = propagated.span().span_context().clone();
                let propagated = propagated.is_valid().then_some(propagated);
                assert_eq!(context.span_context(), propagated, "{context:?}");
            }
        }
        let short = TraceContext::new(format!("00-{}-{id}-01", &trace[1..]), None);
        assert_eq!(short.span_context(), None);
    }
}
