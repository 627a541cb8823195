use std::sync::Arc;
use std::time::SystemTime;

use super::draft::Draft;
use super::steps::FlowSteps;

/// A wait of an event that nobody watched while it lasted.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// Kind and name of the step, such as `outbox wait`.
    pub name: &'static str,
    /// When it began.
    pub from: SystemTime,
    /// When it ended.
    pub until: SystemTime,
    /// Correlation id of the event. Without it the wait is no step.
    pub correlation_id: Option<&'a str>,
    /// Id of the event.
    pub event_id: Option<&'a str>,
    /// Type of the event.
    pub event_type: Option<&'a str>,
    /// Who published the event.
    pub source: Option<&'a str>,
    /// Subject of the event.
    pub subject: Option<&'a str>,
    /// Topic, without the prefix.
    pub topic: &'a str,
    /// The `traceparent` of where the event was created.
    pub traceparent: Option<&'a str>,
}

impl FlowSteps {
    /// Records a wait that is over as a step.
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
