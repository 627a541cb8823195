//! Messages in progress in one partition.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kafka::Record;

/// Counts the assignments of this process, to distinguish them from those of an earlier run.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

pub(super) fn next_epoch() -> u64 {
    EPOCHS.fetch_add(1, Ordering::Relaxed) + 1
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Distinguishes this assignment from earlier ones of the same partition.
    pub(super) epoch: u64,
    /// Taken and unfinished messages, by offset. All messages before the first of them are
    /// finished.
    pub(super) unfinished: BTreeMap<i64, Unfinished>,
    /// The offset after the last taken message, if any.
    pub(super) next: Option<i64>,
    /// The offset that was committed before the assignment, if that is known.
    pub(super) start: Option<i64>,
    /// `true` if the group's coordinator was asked for `start`.
    pub(super) is_start_asked: bool,
    /// The position that was last stored, or taken for storing; before that, the first offset.
    pub(super) stored: Option<i64>,
    /// The last report that the client had read everything: its offset, and the value of `next` at
    /// that time.
    pub(super) read: Option<(i64, Option<i64>)>,
    /// Messages that are read again after a stop.
    pub(super) reread: Option<RereadRange>,
    /// The longest range of offsets without a message since the last look.
    pub(super) skipped: Option<Range<i64>>,
    /// The end of the last range that was looked at: what is read again was looked at before.
    pub(super) looked_until: i64,
    pub(super) bytes: usize,
    pub(super) running: usize,
    pub(super) paused: bool,
    /// When it was paused because too much was held, if that is why.
    pub(super) relieved_since: Option<Instant>,
    /// The partition is being revoked: no message starts any more.
    pub(super) revoked: bool,
}

/// Offsets that are read again after a stop, and which of them were not finished.
#[derive(Debug)]
pub(super) struct RereadRange {
    until: i64,
    /// With the times at which they were written, as in [`Unfinished`].
    unfinished: BTreeMap<i64, Option<i64>>,
}

impl RereadRange {
    fn was_finished(&self, offset: i64) -> bool {
        offset < self.until && !self.unfinished.contains_key(&offset)
    }

    /// Returns whether another message had this offset before the stop.
    fn was_another(&self, record: &Record) -> bool {
        self.unfinished.get(&record.offset).is_some_and(|written| *written != record.timestamp)
    }
}

#[derive(Debug)]
pub(super) struct Unfinished {
    /// When it was written, in milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) size: usize,
}

impl Partition {
    /// Creates a new assignment without messages.
    pub(super) fn new() -> Self {
        Self {
            epoch: next_epoch(),
            unfinished: BTreeMap::new(),
            next: None,
            start: None,
            is_start_asked: false,
            stored: None,
            read: None,
            reread: None,
            skipped: None,
            looked_until: 0,
            bytes: 0,
            running: 0,
            paused: false,
            relieved_since: None,
            revoked: false,
        }
    }

    /// Creates an assignment that starts at the first unfinished message, and records which later
    /// ones are finished.
    pub(super) fn to_be_read_again(&self) -> Self {
        let reread = self.next.map(|next| {
            let before = self.reread.iter().flat_map(|it| it.unfinished.range(next..));
            let before = before.map(|(offset, written)| (*offset, *written));
            let taken = self.unfinished.iter().map(|(offset, it)| (*offset, it.timestamp));
            RereadRange {
                until: self.reread.as_ref().map_or(next, |it| it.until.max(next)),
                unfinished: taken.chain(before).collect(),
            }
        });
        Self {
            next: self.position(),
            start: self.start,
            is_start_asked: self.is_start_asked,
            stored: self.stored,
            reread,
            looked_until: self.next.map_or(self.looked_until, |next| self.looked_until.max(next)),
            paused: true,
            ..Self::new()
        }
    }

    /// Forgets everything, because the topic was created again: messages in progress and finished
    /// ones belong to the old one.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { paused: self.paused, revoked: self.revoked, ..Self::new() };
    }

    pub(super) fn was_finished(&self, offset: i64) -> bool {
        self.reread.as_ref().is_some_and(|it| it.was_finished(offset))
    }

    pub(super) fn was_another(&self, record: &Record) -> bool {
        self.reread.as_ref().is_some_and(|it| it.was_another(record))
    }

    /// Records the offsets without a message in front of this one.
    pub(super) fn skip_to(&mut self, offset: i64) {
        self.skip(self.next.or(self.start).unwrap_or(offset)..offset);
    }

    pub(super) fn skip(&mut self, skipped: Range<i64>) {
        let skipped = skipped.start.max(self.looked_until)..skipped.end;
        let length = |range: &Range<i64>| range.end - range.start;
        if length(&skipped) > self.skipped.as_ref().map_or(0, length) {
            self.skipped = Some(skipped);
        }
    }

    pub(super) fn finish(&mut self, offset: i64) {
        if let Some(finished) = self.unfinished.remove(&offset) {
            self.bytes -= finished.size;
        }
    }

    pub(super) fn position(&self) -> Option<i64> {
        self.unfinished.keys().next().copied().or(self.next)
    }

    /// Returns the last offset before the position, if the position has moved since the last call.
    pub(super) fn take_finished(&mut self) -> Option<i64> {
        let position = self.position().filter(|position| Some(*position) != self.stored)?;
        self.stored = Some(position);
        Some(position - 1)
    }
}
