//! The direct feed: events that are sent to the service over HTTP instead of through Kafka.

use std::sync::Arc;

use envelope::RawEvent;
use tracing::Instrument;

use crate::attempt::{Attempts, Bookkeeping};
use crate::failure::Failure;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::spans;

/// Applies events of a subscription that a caller passes directly. An event that also arrives
/// through Kafka takes effect once, because both use the same inbox. Nothing is retried and nothing
/// becomes a dead letter: the caller gets the result.
#[derive(Clone)]
pub struct Feed {
    attempts: Arc<Attempts>,
}

/// There is no handler for an event.
#[derive(Debug, thiserror::Error)]
#[error("there is no handler for the type {0}")]
struct NoHandler(String);

impl Feed {
    pub(crate) fn new(attempts: Attempts) -> Self {
        Self { attempts: Arc::new(attempts) }
    }

    /// Returns the consumer group of the subscription, without the prefix.
    pub fn group(&self) -> &str {
        &self.attempts.group
    }

    /// Returns whether there is a handler for a type.
    pub fn handles(&self, event_type: &str) -> bool {
        self.attempts.subscription.route_of(event_type).is_some()
    }

    /// Applies one event in one attempt. If the future is dropped, the attempt is rolled back
    /// unless its commit was sent; the caller may send the event again.
    ///
    /// # Errors
    /// Fails with [`Class::Permanent`](crate::Class::Permanent) if the event can never be applied.
    /// After any other failure the caller may send it again.
    pub async fn take(&self, event: RawEvent<'_>) -> Result<Outcome, Failure> {
        let span = spans::of_request(&event.envelope, self.group(), &self.attempts.steps);
        let taking = async {
            let route = self.attempts.subscription.route_of(&event.envelope.event_type);
            let route = route
                .ok_or_else(|| Failure::permanent(NoHandler(event.envelope.event_type.clone())))?;
            let message = Message::read(event, Arc::clone(route), span.clone())?;
            let outcomes = self.attempts.make(&[&message], Bookkeeping::default()).await?;
            let outcome = outcomes.first().copied().unwrap_or(Outcome::Duplicate);
            self.attempts.settled(&message, outcome, 0);
            Ok(outcome)
        };
        let taken = taking.instrument(span.clone()).await;
        if let Err(failure) = &taken {
            span.record("outcome", "failed");
            span.record("error", failure as &dyn std::error::Error);
        }
        taken
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("group", &self.group()).finish_non_exhaustive()
    }
}
