//! A message on its way: read once, then attempted until it is settled.

use std::sync::Arc;

use envelope::{Envelope, RawEvent};
use kafka::Record;
use tracing::Span;

use crate::failure::Failure;
use crate::handler::Data;
use crate::history::History;
use crate::partitions::Ticket;
use crate::replay::Replay;
use crate::subscription::{Mode, Route, Subscription};

/// A record that waits for its lane.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) record: Record,
    pub(crate) ticket: Ticket,
}

impl Queued {
    /// What keeps records in order: the key, or the partition for those without one.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.record.key.clone().unwrap_or_else(|| {
            format!("\0{}\0{}", self.record.topic, self.record.partition).into_bytes()
        })
    }
}

/// A record that its lane has begun with, until it is settled.
pub(crate) struct Taken {
    pub(crate) queued: Queued,
    /// Of its partition.
    pub(crate) history: Arc<History>,
    /// Attempts that failed, or did not end.
    pub(crate) retries: u32,
    pub(crate) replay: Option<Replay>,
    pub(crate) content: Content,
    /// Open until the message is settled; attempts that fail are recorded as span events.
    pub(crate) span: Span,
}

impl Taken {
    pub(crate) fn record(&self) -> &Record {
        &self.queued.record
    }
}

/// What a record was found to be when it was read.
pub(crate) enum Content {
    /// An event that has a handler.
    Event(Message),
    /// An event of a type that the subscription ignores.
    Ignored,
    /// No event, or none that a handler is for. It never will be.
    Unreadable(Failure),
}

/// An event and the handler that it is for.
pub(crate) struct Message {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) data: Data,
    pub(crate) route: Arc<Route>,
    pub(crate) span: Span,
}

/// An event that the subscription can't handle.
#[derive(Debug, thiserror::Error)]
enum Unroutable {
    #[error("an event of type {event_type} does not belong on the topic {topic}")]
    NoHandler { event_type: String, topic: String },
    #[error("the event has no {0}, and the latest one can't be told without")]
    NoVersion(&'static str),
}

impl Content {
    /// Reads a record. `origin` is the topic where it first was, without the prefix.
    pub(crate) fn read(
        record: &Record,
        origin: &Origin<'_>,
        subscription: &Subscription,
        span: &Span,
    ) -> Self {
        let event = match kafka::decode(record) {
            Ok(event) => event,
            Err(error) => return Self::Unreadable(Failure::permanent(error)),
        };
        log_ignored(&event, span);
        let event_type = &event.envelope.event_type;
        let route = match origin {
            Origin::Topic(topic) => subscription.route_on(topic, event_type),
            Origin::Unknown => subscription.route_of(event_type),
        };
        let Some(route) = route else {
            if subscription.ignores_unknown() {
                return Self::Ignored;
            }
            let (event_type, topic) = (event_type.clone(), origin.to_string());
            return Self::Unreadable(Failure::permanent(Unroutable::NoHandler {
                event_type,
                topic,
            }));
        };
        Message::read(event, Arc::clone(route), span.clone())
            .map_or_else(Self::Unreadable, Self::Event)
    }
}

impl Message {
    /// Reads the data of an event for the handler that it is for.
    pub(crate) fn read(
        event: RawEvent<'_>,
        route: Arc<Route>,
        span: Span,
    ) -> Result<Self, Failure> {
        let envelope = &event.envelope;
        span.record("event_id", envelope.id.as_str());
        span.record("correlation_id", envelope.correlation_id.as_str());
        span.record("tenant_id", envelope.tenant_id.as_ref().map(envelope::TenantId::as_str));
        if route.mode == Mode::LatestWins {
            let missing = |what| Failure::permanent(Unroutable::NoVersion(what));
            envelope.version.ok_or_else(|| missing("usable sequence"))?;
            envelope.subject.as_ref().ok_or_else(|| missing("subject"))?;
        }
        let data = route.handler.read(&event)?;
        Ok(Self { envelope: Arc::new(event.envelope), data, route, span })
    }
}

fn log_ignored(event: &RawEvent<'_>, span: &Span) {
    for ignored in &event.ignored {
        let _entered = span.enter();
        tracing::warn!(
            attribute = ignored.attribute,
            given = ignored.given,
            event_id = event.envelope.id.as_str(),
            correlation_id = event.envelope.correlation_id.as_str(),
            "unusable attribute ignored"
        );
    }
}

/// Where an event came from.
#[derive(Clone, Debug)]
pub(crate) enum Origin<'a> {
    /// A topic, without the prefix.
    Topic(&'a str),
    /// It was sent to the retry topic by hand.
    Unknown,
}

impl std::fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(topic) => f.write_str(topic),
            Self::Unknown => f.write_str("of replays"),
        }
    }
}
