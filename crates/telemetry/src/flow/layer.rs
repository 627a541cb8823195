use tracing::Subscriber;
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::draft::Draft;
use super::steps::Buffer;
use crate::log::{Fields, trace_id};

/// Records the spans that are created through [`FlowSteps`](super::FlowSteps) as steps. It is below
/// the layer of OpenTelemetry, which removes the trace id when a span closes.
///
/// It neither samples nor exports. A span that is not a step costs one read of a thread-local.
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

    /// Records a deferred task as a step of the flow whose request deferred it.
    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let cause = context.span_scope(follows).into_iter().flatten().find_map(|cause| {
            let extensions = cause.extensions();
            Some(extensions.get::<Draft>()?.followed_by(span.name()))
        });
        let Some(mut draft) = cause else { return };
        if !draft.is_lost() {
            // It was not a step when it was created, so only the layer of log lines has its fields.
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

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tracing::{Span, field};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::flow::{FlowSteps, note_failed_attempt};
    use crate::log::SpanFields;

    fn recording<T>(work: impl FnOnce() -> T) -> T {
        let subscriber = Registry::default().with(FlowLayer).with(SpanFields);
        tracing::subscriber::with_default(subscriber, work)
    }

    fn request(flow: &str) -> Span {
        let status = field::Empty;
        tracing::info_span!(
            "request",
            otel.name = "POST /parcels",
            http.response.status_code = status,
            correlation_id = flow
        )
    }

    fn process() -> Span {
        tracing::info_span!(
            parent: None,
            "process",
            otel.name = "process parcel.packed",
            messaging.destination.name = "parcel.packed",
            messaging.destination.partition.id = "3",
            messaging.kafka.offset = 17_i64,
            cloudevents.event_subject = "P-17",
            correlation_id = "c-1",
            event_id = "e-1",
            outcome = field::Empty,
            error = field::Empty,
        )
    }

    fn taken(steps: &FlowSteps) -> Vec<Value> {
        let taken = steps.take(usize::MAX);
        taken.iter().map(|step| serde_json::from_str(&step.json).expect("JSON")).collect()
    }

    #[test]
    fn a_span_is_a_step_of_the_service_that_created_it() {
        let (one, other) = (FlowSteps::new(9), FlowSteps::new(9));
        recording(|| {
            let span = one.span(|| request("c-1"));
            let _inner = span.in_scope(|| tracing::info_span!("query", correlation_id = "c-1"));
            span.record("http.response.status_code", 201_u16);
            drop(other.span(|| request("c-2")));
            drop(request("c-3"));
        });
        let steps = one.take(9);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].correlation_id, "c-1");
        let json: Value = serde_json::from_str(&steps[0].json).expect("JSON");
        assert_eq!((&json["kind"], &json["name"]), (&"request".into(), &"POST /parcels".into()));
        assert_eq!(json["status"], 201);
        assert!(json["at_us"].is_u64() && json["duration_us"].is_u64(), "{json}");
        let of_other: Vec<_> = other.take(9).into_iter().map(|it| it.correlation_id).collect();
        assert_eq!(of_other, ["c-2"]);
    }

    #[test]
    fn a_deferred_task_is_a_step_of_the_flow_that_deferred_it() {
        let steps = FlowSteps::new(9);
        recording(|| {
            let request = steps.span(|| request("c-1"));
            let inner = request.in_scope(|| tracing::info_span!("query"));
            drop(request);
            let deferred =
                tracing::info_span!(parent: None, "deferred", task = "tell", error = field::Empty);
            deferred.follows_from(&inner);
            drop(inner);
            deferred.record("error", &std::fmt::Error as &dyn std::error::Error);
        });
        let taken = steps.take(9);
        assert_eq!(taken.iter().map(|it| &*it.correlation_id).collect::<Vec<_>>(), ["c-1", "c-1"]);
        let deferred: Value = serde_json::from_str(&taken[1].json).expect("JSON");
        assert_eq!(deferred["name"], "deferred tell");
        assert_eq!(deferred["task"], "tell");
        assert_eq!(deferred["error"], std::fmt::Error.to_string());
    }

    #[test]
    fn a_message_shows_its_failed_attempts_and_its_outcome() {
        let steps = FlowSteps::new(9);
        recording(|| {
            let span = steps.span(process);
            for attempt in 1..=30 {
                note_failed_attempt(&span, attempt, &std::fmt::Error);
            }
            span.record("outcome", "processed");
        });
        let step = taken(&steps).pop().expect("a step");
        assert_eq!((&step["partition"], &step["offset"]), (&3.into(), &17.into()));
        assert_eq!((&step["event_id"], &step["subject"]), (&"e-1".into(), &"P-17".into()));
        assert_eq!(step["outcome"], "processed");
        let attempts = step["attempts"].as_array().expect("attempts");
        assert_eq!((attempts.len(), &attempts[19]["attempt"]), (20, &30.into()), "the last ones");
    }

    #[test]
    fn a_message_without_an_outcome_is_no_step() {
        let steps = FlowSteps::new(9);
        recording(|| drop(steps.span(process)));
        assert_eq!(taken(&steps), [] as [Value; 0]);
        assert_eq!(steps.lost(), 0);
    }

    #[test]
    fn a_step_that_begins_when_there_is_no_room_is_lost() {
        let steps = FlowSteps::new(1);
        recording(|| {
            drop(steps.span(|| request("c-1")));
            let span = steps.span(|| request("c-2"));
            let deferred = tracing::info_span!(parent: None, "deferred", task = "tell");
            deferred.follows_from(&span);
        });
        assert_eq!((steps.waiting(), steps.lost()), (1, 2));
    }

    #[test]
    fn what_is_off_records_nothing() {
        let steps = FlowSteps::off();
        recording(|| drop(steps.span(|| request("c-1"))));
        assert!(!steps.is_on());
        assert_eq!((steps.waiting(), steps.lost()), (0, 0));
    }
}
