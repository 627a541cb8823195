use std::error::Error;

use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::draft::Draft;

/// Records a failed attempt in the step of a span. The step may still succeed. Does nothing if the
/// span is not a step.
///
/// Independent of `RUST_LOG`, which may suppress the log line of the attempt.
pub fn note_failed_attempt(span: &Span, attempt: u32, error: &(dyn Error + 'static)) {
    span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id));
        if let Some(span) = span
            && let Some(draft) = span.extensions_mut().get_mut::<Draft>()
        {
            draft.note_failed_attempt(attempt, error);
        }
    });
}
