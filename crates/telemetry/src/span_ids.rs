//! Ids of spans. OpenTelemetry's layer assigns them if spans are exported. Otherwise a span gets
//! ids when they are first requested, so that the trace context is propagated and most spans cost
//! almost nothing.

use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::{Dispatch, Id};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// Ids that were assigned here.
struct Ids(SpanContext);

/// The remote parent of a span, in another process.
struct RemoteParent(SpanContext);

/// Returns the ids of a span, or `None` if it is disabled or the subscriber is not one of
/// [`init`](crate::init).
pub(crate) fn context_of(span: &Id, dispatch: &Dispatch) -> Option<SpanContext> {
    if let Some(context) = tracing_opentelemetry::get_otel_context(span, dispatch) {
        return Some(context.span().span_context().clone());
    }
    Some(ids_of(&dispatch.downcast_ref::<Registry>()?.span(span)?))
}

/// Makes a span a child of a remote span. Does nothing if it has ids already.
pub(crate) fn set_remote_parent(span: &Id, dispatch: &Dispatch, parent: SpanContext) {
    if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|it| it.span(span)) {
        span.extensions_mut().replace(RemoteParent(parent));
    }
}

fn ids_of(span: &SpanRef<'_, Registry>) -> SpanContext {
    let (given, remote) = {
        let extensions = span.extensions();
        let given = extensions.get::<Ids>().map(|Ids(context)| context.clone());
        (given, extensions.get::<RemoteParent>().map(|RemoteParent(context)| context.clone()))
    };
    if let Some(given) = given {
        return given;
    }
    let new = child_of(remote.or_else(|| span.parent().map(|parent| ids_of(&parent))));
    let mut extensions = span.extensions_mut();
    // Another thread may have assigned ids meanwhile.
    if let Some(Ids(given)) = extensions.get_mut::<Ids>() {
        return given.clone();
    }
    extensions.insert(Ids(new.clone()));
    new
}

/// Returns new ids, in the trace of the parent if there is one. A new trace is sampled, as with
/// OpenTelemetry's layer, so that downstream services may export their part.
pub(crate) fn child_of(parent: Option<SpanContext>) -> SpanContext {
    let ids = RandomIdGenerator::default();
    let (trace_id, flags, state) = match parent {
        Some(parent) => (parent.trace_id(), parent.trace_flags(), parent.trace_state().clone()),
        None => (ids.new_trace_id(), TraceFlags::SAMPLED, TraceState::NONE),
    };
    SpanContext::new(trace_id, ids.new_span_id(), flags, false, state)
}

#[cfg(test)]
mod tests {
    use tracing::Span;
    use tracing_subscriber::layer::SubscriberExt;

    use crate::{TraceContext, log::SpanFields};

    fn without_exporter<T>(work: impl FnOnce() -> T) -> T {
        let subscriber = tracing_subscriber::Registry::default().with(SpanFields);
        tracing::subscriber::with_default(subscriber, work)
    }

    fn ids(span: &Span) -> (String, String, String) {
        let context = TraceContext::of(span).expect("ids").traceparent;
        let parts: Vec<_> = context.split('-').map(str::to_owned).collect();
        (parts[1].clone(), parts[2].clone(), parts[3].clone())
    }

    #[test]
    fn without_an_exporter_a_trace_goes_from_the_caller_through_a_span_to_its_children() {
        without_exporter(|| {
            let request = tracing::info_span!("request");
            let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
            TraceContext::new(caller, Some("vendor=1")).set_parent(&request);
            // The child's ids are requested first.
            let child = request.in_scope(|| tracing::info_span!("query"));
            let (trace, span, flags) = ids(&child);
            assert_eq!(
                (trace.as_str(), flags.as_str()),
                ("4bf92f3577b34da6a3ce929d0e0e4736", "00")
            );
            let of_request = TraceContext::of(&request).expect("ids");
            assert_eq!(of_request.tracestate.as_deref(), Some("vendor=1"));
            assert_eq!(ids(&request).0, trace);
            assert_ne!(ids(&request).1, span);
            assert_eq!(ids(&child), (trace, span, flags), "they stay");
        });
    }

    #[test]
    fn without_an_exporter_a_span_without_a_parent_begins_a_trace_that_is_sampled() {
        without_exporter(|| {
            let (one, other) = (tracing::info_span!("one"), tracing::info_span!("other"));
            assert_eq!(ids(&one).2, "01");
            assert_ne!(ids(&one).0, ids(&other).0);
            TraceContext::new("00-broken", None).set_parent(&other);
            assert_eq!(ids(&other).2, "01");
        });
    }
}
