use std::sync::Arc;

use kafka::{Record, Settings, retry_topic};

use crate::history::{Histories, History};
use crate::message::{Content, Origin, Queued, Taken};
use crate::replay::Replay;
use crate::spans;
use crate::subscription::Subscription;

/// Reads records into messages, each once.
pub(crate) struct Reader {
    subscription: Arc<Subscription>,
    histories: Arc<Histories>,
    kafka: Settings,
    group: String,
    /// Name on the cluster.
    retry_topic: String,
}

impl Reader {
    pub(crate) fn new(
        subscription: Arc<Subscription>,
        histories: Arc<Histories>,
        kafka: Settings,
    ) -> Self {
        let group = subscription.group();
        let retry_topic = kafka.prefixed(&retry_topic(&group).name);
        Self { subscription, histories, kafka, group, retry_topic }
    }

    /// Returns what happened in the record's partition before it was assigned.
    pub(crate) async fn history(&self, queued: &Queued) -> sqlx::Result<Arc<History>> {
        self.histories.of(queued.ticket.assignment()).await
    }

    pub(crate) fn read(&self, queued: Queued, history: Arc<History>) -> Taken {
        let record = &queued.record;
        let replay = self.replay(record);
        let topic = self.kafka.unprefixed(&record.topic);
        let decoded = kafka::decode(record);
        let envelope = decoded.as_ref().ok().map(|event| &event.envelope);
        let span = spans::of_record(record, envelope, topic, &self.group, replay.as_ref());
        let origin = match &replay {
            // A replay does not make an event right that was on the wrong topic.
            Some(replay) => Origin::Topic(self.kafka.unprefixed(&replay.origin().topic)),
            None if record.topic == self.retry_topic => Origin::Unknown,
            None => Origin::Topic(topic),
        };
        let content = Content::read(decoded, &origin, &self.subscription, &span);
        let retries = history.of(record.offset).times;
        Taken { queued, history, retries, conflict: None, replay, content, span }
    }

    /// Only of the group's own retry topic: nobody else's headers are to be believed.
    fn replay(&self, record: &Record) -> Option<Replay> {
        (record.topic == self.retry_topic).then(|| Replay::carried_by(record)).flatten()
    }
}
