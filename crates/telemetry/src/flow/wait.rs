use std::sync::Arc;
use std::time::SystemTime;

use super::draft::Draft;
use super::steps::FlowSteps;

/// A wait of an event, recorded after its end.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// Kind and name of the step, such as `outbox wait`.
    pub name: &'static str,
    /// Begin of the wait.
    pub from: SystemTime,
    /// End of the wait.
    pub until: SystemTime,
    /// Correlation id of the event. Without one the wait is not recorded.
    pub correlation_id: Option<&'a str>,
    /// Id of the event.
    pub event_id: Option<&'a str>,
    /// Type of the event.
    pub event_type: Option<&'a str>,
    /// Publisher of the event.
    pub source: Option<&'a str>,
    /// Subject of the event.
    pub subject: Option<&'a str>,
    /// Topic, without the prefix.
    pub topic: &'a str,
    /// The `traceparent` of the span that created the event.
    pub traceparent: Option<&'a str>,
}

impl FlowSteps {
    /// Records a finished wait as a step.
    pub fn record_wait(&self, wait: &Wait<'_>) {
        let (Some(buffer), Some(correlation_id)) = (self.buffer(), wait.correlation_id) else {
            return;
        };
        let mut step = Draft::new(Arc::clone(buffer), wait.name);
        if !step.is_lost() {
            step.set_time(wait.from, wait.until);
            step.correlation_id = Some(correlation_id.to_owned());
            step.event_id = wait.event_id.map(str::to_owned);
            step.subject = wait.subject.map(str::to_owned);
            step.add("name", wait.name);
            step.add_text("topic", wait.topic);
            for (name, text) in [("event_type", wait.event_type), ("source", wait.source)] {
                if let Some(text) = text {
                    step.add_text(name, text);
                }
            }
        }
        step.finish(wait.traceparent.and_then(|parent| parent.split('-').nth(1)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_wait_is_a_step_with_the_time_that_it_took() {
        let steps = FlowSteps::new(9);
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let wait = Wait {
            name: "outbox wait",
            from,
            until: from + Duration::from_millis(3),
            correlation_id: Some("c-1"),
            event_id: Some("e-1"),
            event_type: Some("parcel.packed"),
            source: None,
            subject: Some("P-17"),
            topic: "parcels",
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        };
        steps.record_wait(&wait);
        steps.record_wait(&Wait { correlation_id: None, ..wait });
        let taken = steps.take(9);
        assert_eq!(taken.len(), 1);
        let step: Value = serde_json::from_str(&taken[0].json).expect("JSON");
        assert_eq!((&step["kind"], &step["topic"]), (&"outbox wait".into(), &"parcels".into()));
        assert_eq!((&step["at_us"], &step["duration_us"]), (&7_000_000.into(), &3_000.into()));
        assert_eq!(step["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
