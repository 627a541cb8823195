//! Looks for a message that can show whether a circuit breaker may be closed, while nothing is consumed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kafka::Record;
use tokio::sync::oneshot;

use crate::message::{KeyHash, Queued, key_hash};

/// How long it may take, and how long until nothing more is expected.
const LIMIT: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(1);
/// How many records are looked at.
const MAX_RECORDS: usize = 10_000;

/// Asks the polling thread for a message of a type.
pub(crate) struct ScanRequest {
    pub(crate) event_type: String,
    /// Keys whose messages failed already: another one tells more.
    pub(crate) tried: HashSet<KeyHash>,
    pub(crate) found: oneshot::Sender<Candidate>,
}

/// What a scan found.
pub(crate) enum Candidate {
    /// A message of a key that was not tried yet.
    Other(Queued),
    /// There is none, but one of a key that was.
    Tried(Queued),
    /// There is no message of the type.
    None,
}

/// A scan under way. Of each key only the first message counts, since a later one must not overtake it.
pub(crate) struct Scan {
    request: ScanRequest,
    began: Instant,
    last: Instant,
    records: usize,
    seen: HashSet<KeyHash>,
    /// The first message of the type whose key was tried already.
    second_choice: Option<Record>,
}

impl Scan {
    pub(crate) fn new(request: ScanRequest) -> Self {
        let now = Instant::now();
        Self {
            request,
            began: now,
            last: now,
            records: 0,
            seen: HashSet::new(),
            second_choice: None,
        }
    }

    pub(crate) fn event_type(&self) -> &str {
        &self.request.event_type
    }

    /// Looks at a record, and returns it if it is the one.
    pub(crate) fn look_at(&mut self, record: Record) -> Option<Record> {
        self.last = Instant::now();
        self.records += 1;
        let key = key_hash(&record);
        let is_of_type =
            kafka::decode(&record).is_ok_and(|it| it.envelope.event_type == self.event_type());
        if !self.seen.insert(key) || !is_of_type {
            return None;
        }
        if !self.request.tried.contains(&key) {
            return Some(record);
        }
        self.second_choice.get_or_insert(record);
        None
    }

    /// Returns whether nothing more is to be expected.
    pub(crate) fn is_over(&self) -> bool {
        self.records >= MAX_RECORDS
            || self.last.elapsed() > QUIET && self.records > 0
            || self.began.elapsed() > LIMIT
    }

    /// Ends it with what `look_at` returned, if it did. `queue` makes it a message.
    pub(crate) fn end(self, found: Option<Record>, queue: impl Fn(Record) -> Option<Queued>) {
        let other = found.and_then(&queue).map(Candidate::Other);
        let tried = || self.second_choice.and_then(&queue).map(Candidate::Tried);
        let candidate = other.or_else(tried).unwrap_or(Candidate::None);
        // Nobody waits for it any more if the run has ended.
        _ = self.request.found.send(candidate);
    }
}
