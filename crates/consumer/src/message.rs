//! A message on its way: read once, then attempted until it is settled.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use envelope::{Envelope, RawEvent};
use kafka::{DecodeError, Record};
use tracing::Span;

use crate::failure::Failure;
use crate::handler::{Decoded, Erased};
use crate::history::History;
use crate::partitions::Ticket;
use crate::status::Held;
use crate::subscription::{Mode, Route, Subscription};

/// Tells keys apart within the process.
pub(crate) type KeyHash = u64;

/// Returns the hash of what keeps records in order: the key, or the partition for those without one.
pub(crate) fn key_hash(record: &Record) -> KeyHash {
    hash_of_key(record.key.as_deref(), &record.topic, record.partition)
}

/// Does the same for a record of which no more is at hand.
pub(crate) fn hash_of_key(key: Option<&[u8]>, topic: &str, partition: i32) -> KeyHash {
    let mut hasher = DefaultHasher::new();
    match key {
        Some(key) => key.hash(&mut hasher),
        None => (topic, partition).hash(&mut hasher),
    }
    hasher.finish()
}

/// A record that waits for its lane.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) record: Record,
    pub(crate) ticket: Ticket,
}

impl Queued {
    pub(crate) fn key_hash(&self) -> KeyHash {
        key_hash(&self.record)
    }

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
    /// What has been in its way since when, if something is.
    pub(crate) conflict: Option<Conflict>,
    pub(crate) content: Content,
    /// Open until the message is settled; attempts that fail are recorded as span events.
    pub(crate) span: Span,
}

impl Taken {
    pub(crate) fn record(&self) -> &Record {
        &self.queued.record
    }

    pub(crate) fn ticket(&self) -> &Ticket {
        &self.queued.ticket
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        self.queued.key()
    }

    pub(crate) fn key_hash(&self) -> KeyHash {
        self.queued.key_hash()
    }

    /// Whether nothing is done about it.
    pub(crate) fn is_passed_over(&self) -> bool {
        matches!(self.content, Content::Ignored | Content::Buried)
    }

    /// The attributes of its event, if it is one that a handler is for.
    pub(crate) fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Event(message) => Some(message.envelope()),
            Content::Ignored | Content::Buried | Content::Unreadable(_) => None,
        }
    }
}

/// Something outside of a message keeps it from being processed: a lock, for instance.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// Attempts that met it.
    pub(crate) attempts: u32,
    /// When the first of them failed.
    pub(crate) since: Instant,
    /// Commits of the subscription by then.
    pub(crate) commits: u64,
    /// Shows it in the status, once it lasts.
    pub(crate) shown: Option<Held>,
}

impl Conflict {
    /// Creates one that begins now. `commits` is the number of the subscription's commits until now.
    pub(crate) fn new(commits: u64) -> Self {
        Self { attempts: 0, since: Instant::now(), commits, shown: None }
    }
}

/// What a record was found to be when it was read.
pub(crate) enum Content {
    /// An event that has a handler.
    Event(Message),
    /// An event of a type that the subscription ignores.
    Ignored,
    /// It is a dead letter already, and comes again because something before it is not finished.
    Buried,
    /// No event, or none that a handler is for. It never will be.
    Unreadable(Failure),
}

/// An event and the handler that it is for.
pub(crate) struct Message {
    event: Decoded,
    route: Arc<Route>,
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
    /// Finds the handler of an event, and reads its data for it. `topic` is without the prefix.
    pub(crate) fn read(
        decoded: Result<RawEvent<'_>, DecodeError>,
        topic: &str,
        subscription: &Subscription,
        span: &Span,
    ) -> Self {
        let event = match decoded {
            Ok(event) => event,
            Err(error) => return Self::Unreadable(Failure::permanent(error)),
        };
        let event_type = &event.envelope.event_type;
        let Some(route) = subscription.route_on(topic, event_type) else {
            if subscription.ignores_unknown() {
                return Self::Ignored;
            }
            let (event_type, topic) = (event_type.clone(), topic.to_owned());
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
    pub(crate) fn event(&self) -> &Decoded {
        &self.event
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.event.envelope
    }

    pub(crate) fn mode(&self) -> Mode {
        self.route.mode
    }

    pub(crate) fn handler(&self) -> &dyn Erased {
        &*self.route.handler
    }

    /// Notes that it was processed.
    pub(crate) fn succeeded(&self) {
        self.route.succeeded.note(Instant::now());
    }

    /// Whether the same handler is called for both, so that one call can do for them.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.route, &other.route)
    }

    /// Reads the data of an event for the handler that it is for.
    pub(crate) fn read(
        event: RawEvent<'_>,
        route: Arc<Route>,
        span: Span,
    ) -> Result<Self, Failure> {
        log_ignored(&event, &span);
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
        let event = Decoded { envelope: Arc::new(event.envelope), data, span };
        Ok(Self { event, route })
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
