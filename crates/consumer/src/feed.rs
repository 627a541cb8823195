//! The way in that is not Kafka: events that are sent to the service itself.

use std::sync::Arc;

use events::Envelope;

use crate::failure::Failure;
use crate::inbox::Outcome;
use crate::processor::Processor;

/// Takes the events of a subscription from whoever has them. The same event by this way and by Kafka has one effect:
/// the inbox knows it. Nothing is retried and nothing becomes a dead letter: the sender waits, and is told.
#[derive(Clone)]
pub struct Feed {
    processor: Arc<Processor>,
}

impl Feed {
    pub(crate) fn new(processor: Processor) -> Self {
        Self { processor: Arc::new(processor) }
    }

    /// The consumer group whose events it takes, without the prefix.
    pub fn group(&self) -> &str {
        &self.processor.group
    }

    /// Whether there is a handler for a type.
    pub fn hears(&self, event_type: &str) -> bool {
        self.processor.subscription.route_of(event_type).is_some()
    }

    /// Makes the effect of one event in one attempt. `data` is JSON, not checked yet.
    ///
    /// # Errors
    /// [`Class::Permanent`](crate::Class::Permanent) if it will never be taken; else it may be sent again.
    pub async fn take(&self, envelope: Envelope, data: &[u8]) -> Result<Outcome, Failure> {
        self.processor.take(envelope, data).await
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("group", &self.group()).finish_non_exhaustive()
    }
}
