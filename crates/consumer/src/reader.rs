use std::sync::Arc;

use kafka::Settings;
use telemetry::FlowSteps;

use crate::history::{Histories, History};
use crate::message::{Content, Queued, Taken};
use crate::spans;
use crate::subscription::Subscription;

/// Decodes records into messages, each once.
pub(crate) struct Reader {
    subscription: Arc<Subscription>,
    histories: Arc<Histories>,
    kafka: Settings,
    group: String,
    steps: FlowSteps,
}

impl Reader {
    pub(crate) fn new(
        subscription: Arc<Subscription>,
        histories: Arc<Histories>,
        kafka: Settings,
        steps: FlowSteps,
    ) -> Self {
        let group = subscription.group();
        Self { subscription, histories, kafka, group, steps }
    }

    /// Returns whether [`history`](Self::history) needs no database.
    pub(crate) fn knows_history(&self, queued: &Queued) -> bool {
        self.histories.known(queued.ticket.assignment()).is_some()
    }

    /// Returns the history of the record's partition from before its assignment, starting at
    /// `position`.
    pub(crate) async fn history(
        &self,
        queued: &Queued,
        position: i64,
    ) -> sqlx::Result<Arc<History>> {
        self.histories.of(queued.ticket.assignment(), position).await
    }

    pub(crate) fn read(&self, queued: Queued, history: Arc<History>) -> Taken {
        let record = &queued.record;
        let topic = self.kafka.unprefixed(&record.topic);
        let decoded = kafka::decode(record);
        let envelope = decoded.as_ref().ok().map(|event| &event.envelope);
        let span = spans::of_record(record, envelope, topic, &self.group, &self.steps);
        let content = if history.is_dead(record) {
            Content::Buried
        } else {
            Content::read(decoded, topic, &self.subscription, &span)
        };
        let retries = history.of(record).times;
        Taken { queued, history, retries, conflict: None, content, span }
    }
}
