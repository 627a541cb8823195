//! A message: decoded once, then attempted until it is settled.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use envelope::{Envelope, RawEvent};
use kafka::{DecodeError, Record};
use tracing::Span;

use crate::failure::Failure;
use crate::handler::{Decoded, Erased};
use crate::history::History;
use crate::partitions::Ticket;
use crate::status::StatusGuard;
use crate::subscription::{Mode, Route, Subscription};

/// Identifies a key within the process.
pub(crate) type KeyHash = u64;

/// Returns the hash of a record's ordering key: its key, or its partition if it has none.
pub(crate) fn key_hash(record: &Record) -> KeyHash {
    hash_of_key(record.key.as_deref(), &record.topic, record.partition)
}

/// Returns the same hash from key, topic and partition.
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

    /// Returns the ordering key: the record's key, or its partition if it has none.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.record.key.clone().unwrap_or_else(|| {
            format!("\0{}\0{}", self.record.topic, self.record.partition).into_bytes()
        })
    }
}

/// A record that its lane has started to process, until it is settled.
pub(crate) struct Taken {
    pub(crate) queued: Queued,
    /// History of its partition.
    pub(crate) history: Arc<History>,
    /// Number of attempts that failed or did not end.
    pub(crate) retries: u32,
    /// Current conflict, if any.
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

    /// Returns whether the message needs no attempt.
    pub(crate) fn is_passed_over(&self) -> bool {
        matches!(self.content, Content::Ignored | Content::Buried)
    }

    /// Returns the attributes of its event, if a handler exists for it.
    pub(crate) fn envelope(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Event(message) => Some(message.envelope()),
            Content::Ignored | Content::Buried | Content::Unreadable(_) => None,
        }
    }
}

/// A conflict that blocks a message, for example a lock.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// Number of attempts that ended in the conflict.
    pub(crate) attempts: u32,
    /// When the first of these attempts failed.
    pub(crate) since: Instant,
    /// Number of the subscription's commits at that time.
    pub(crate) commits: u64,
    /// Reports it in the status, once it lasts.
    pub(crate) shown: Option<StatusGuard>,
    /// Counts the message, once an attempt at it alone has waited too long for a lock.
    pub(crate) counted: Option<BlockedGuard>,
}

impl Conflict {
    /// Creates a conflict that begins now. `commits` is the current number of the subscription's
    /// commits.
    pub(crate) fn new(commits: u64) -> Self {
        Self { attempts: 0, since: Instant::now(), commits, shown: None, counted: None }
    }
}

/// Number of a subscription's messages that are known to need a held lock. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked(Arc<AtomicU32>);

/// A counted message.
#[derive(Debug)]
pub(crate) struct BlockedGuard(Blocked);

impl Blocked {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) -> BlockedGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        BlockedGuard(self.clone())
    }
}

impl Drop for BlockedGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Result of decoding a record.
pub(crate) enum Content {
    /// An event that has a handler.
    Event(Message),
    /// An event of a type that the subscription ignores.
    Ignored,
    /// A message that was dead-lettered before, redelivered because an earlier one is not finished.
    Buried,
    /// Not an event, or an event without a handler: a permanent failure.
    Unreadable(Failure),
}

/// An event and its handler.
pub(crate) struct Message {
    event: Decoded,
    route: Arc<Route>,
}

/// An event that the subscription can't handle.
#[derive(Debug, thiserror::Error)]
enum Unroutable {
    #[error("an event of type {event_type} does not belong on the topic {topic}")]
    NoHandler { event_type: String, topic: String },
    #[error("the event has no {0}, which `latest_wins` requires")]
    NoVersion(&'static str),
}

impl Content {
    /// Finds the handler of an event, and decodes the data for it. `topic` is without the prefix.
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

    /// Records the time of a success for its event type.
    pub(crate) fn succeeded(&self) {
        self.route.succeeded.note(Instant::now());
    }

    /// Returns whether both have the same handler, so that one call can handle them.
    pub(crate) fn has_same_handler(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.route, &other.route)
    }

    /// Decodes the data of an event for its handler.
    pub(crate) fn read(
        event: RawEvent<'_>,
        route: Arc<Route>,
        span: Span,
    ) -> Result<Self, Failure> {
        log_ignored(&event, &span);
        let envelope = &event.envelope;
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
