use opentelemetry::trace::TraceContextExt;
use tracing::Subscriber;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::draft::Draft;
use super::steps::Buffer;
use crate::log::Fields;

/// Makes steps of the spans that are created through [`FlowSteps`](super::FlowSteps). Below the layer of OpenTelemetry, which
/// takes the trace id along when a span closes.
///
/// It neither samples nor exports, and a span that is no step costs one look at a thread-local.
pub(crate) struct FlowLayer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for FlowLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(buffer) = Buffer::of_new_span() else { return };
        let Some(span) = context.span(id) else { return };
        let mut draft = Draft::new(buffer, attributes.metadata().name());
        attributes.record(&mut draft);
        span.extensions_mut().insert(draft);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(draft) = span.extensions_mut().get_mut::<Draft>()
        {
            values.record(draft);
        }
    }

    /// A deferred task is a step of the flow whose request deferred it.
    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let cause = context.span_scope(follows).into_iter().flatten().find_map(|cause| {
            let extensions = cause.extensions();
            Some(extensions.get::<Draft>()?.followed_by(span.name()))
        });
        let Some(mut draft) = cause else { return };
        if !draft.is_lost() {
            // It was no step when it was created, so its fields are only known from the lines' layer.
            let extensions = span.extensions();
            let task = extensions.get::<Fields>().and_then(|fields| fields.text("task"));
            draft.add_text("name", &format!("{} {}", span.name(), task.unwrap_or_default()));
            if let Some(task) = task {
                draft.add_text("task", task);
            }
        }
        span.extensions_mut().insert(draft);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(draft) = span.extensions_mut().remove::<Draft>() else { return };
        let trace_id = if draft.is_lost() { None } else { trace_id(&id) };
        draft.finish(trace_id.as_deref());
    }
}

fn trace_id(span: &Id) -> Option<String> {
    let context = tracing::dispatcher::get_default(|dispatch| {
        tracing_opentelemetry::get_otel_context(span, dispatch)
    })?;
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}
