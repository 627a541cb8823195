//! Searches for a message to probe while a circuit breaker is open.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kafka::Record;
use tokio::sync::oneshot;

use crate::message::{KeyHash, Queued, key_hash};

/// Time limit of a scan, and the time without records after which it ends.
const LIMIT: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(1);
/// Maximum number of records to scan.
const MAX_RECORDS: usize = 10_000;

/// Asks the polling thread for a message of a type.
pub(crate) struct ScanRequest {
    pub(crate) event_type: String,
    /// Keys whose messages have failed; others are preferred.
    pub(crate) tried: HashSet<KeyHash>,
    pub(crate) found: oneshot::Sender<Candidate>,
}

/// Result of a scan.
pub(crate) enum Candidate {
    /// A message of a key that was not tried yet.
    Other(Queued),
    /// A message of a key that was tried, because no other key has a message of the type.
    Tried(Queued),
    /// No message of the type.
    None,
}

/// A running scan. Only the first message of each key counts, since a later one must not overtake
/// it.
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

    /// Examines a record, and returns it if it is the one to probe.
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

    /// Returns whether the scan has to end.
    pub(crate) fn is_over(&self) -> bool {
        self.records >= MAX_RECORDS
            || self.last.elapsed() > QUIET && self.records > 0
            || self.began.elapsed() > LIMIT
    }

    /// Ends the scan with the record that `look_at` returned, if any. `queue` turns it into a
    /// message.
    pub(crate) fn end(self, found: Option<Record>, queue: impl Fn(Record) -> Option<Queued>) {
        let other = found.and_then(&queue).map(Candidate::Other);
        let tried = || self.second_choice.and_then(&queue).map(Candidate::Tried);
        let candidate = other.or_else(tried).unwrap_or(Candidate::None);
        // The requester is gone if the run has ended.
        _ = self.request.found.send(candidate);
    }
}
