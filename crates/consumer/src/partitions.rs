//! Messages in progress in each partition: which offset may be stored, and how many bytes are held.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, WaitTimeoutResult};
use std::time::{Duration, Instant};

use kafka::Record;
use tokio::sync::watch;

/// Memory overhead of a message, besides its record.
const OVERHEAD: usize = 512;

/// How long a partition is paused until there is half of the room. It takes half a second to fetch
/// again, so that a pause should not follow at once.
const LONG: Duration = Duration::from_secs(1);

/// Counts the assignments of this process, to distinguish them from those of an earlier run.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

fn next_epoch() -> u64 {
    EPOCHS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Topic (name on the cluster) and partition.
pub(crate) type TopicPartition = (String, i32);

/// Shared between the polling thread and the lanes.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    table: Mutex<Table>,
    /// Signalled when a running message ends.
    idle: Condvar,
    /// Changes when tickets become void, to notify holders of messages.
    voided: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    /// Number of threads that wait for the end of running messages. Without any, none is signalled,
    /// which would cost a system call for each message.
    waiting: usize,
    closed: bool,
    /// All partitions are stopped until they are resumed.
    stopped: bool,
    /// Value of `oldest` at the stop.
    oldest_when_stopped: Option<i64>,
    assigned: HashMap<TopicPartition, Partition>,
}

#[derive(Debug)]
struct Partition {
    /// Distinguishes this assignment from earlier ones of the same partition.
    epoch: u64,
    /// Taken and unfinished messages, by offset. All messages before the first of them are
    /// finished.
    unfinished: BTreeMap<i64, Unfinished>,
    /// The offset after the last taken message, if any.
    next: Option<i64>,
    /// The offset that was committed before the assignment, if that is known.
    start: Option<i64>,
    /// `true` if the group's coordinator was asked for `start`.
    is_start_asked: bool,
    /// The position that was last stored, or taken for storing; before that, the first offset.
    stored: Option<i64>,
    /// The last report that the client had read everything: its offset, and the value of `next` at
    /// that time.
    read: Option<(i64, Option<i64>)>,
    /// Messages that are read again after a stop.
    reread: Option<RereadRange>,
    /// The longest range of offsets without a message since the last look.
    skipped: Option<Range<i64>>,
    /// The end of the last range that was looked at: what is read again was looked at before.
    looked_until: i64,
    bytes: usize,
    running: usize,
    paused: bool,
    /// When it was paused because too much was held, if that is why.
    relieved_since: Option<Instant>,
    /// The partition is being revoked: no message starts any more.
    revoked: bool,
}

/// Offsets that are read again after a stop, and which of them were not finished.
#[derive(Debug)]
struct RereadRange {
    until: i64,
    unfinished: BTreeSet<i64>,
}

impl RereadRange {
    fn was_finished(&self, offset: i64) -> bool {
        offset < self.until && !self.unfinished.contains(&offset)
    }
}

#[derive(Debug)]
struct Unfinished {
    /// When it was written, in milliseconds since 1970.
    timestamp: Option<i64>,
    size: usize,
}

/// A message's position in an assignment of its partition.
#[derive(Debug)]
pub(crate) struct Ticket {
    partition: TopicPartition,
    epoch: u64,
    offset: i64,
}

impl Ticket {
    /// Returns the assignment that it belongs to.
    pub(crate) fn assignment(&self) -> Assignment<'_> {
        Assignment { partition: &self.partition, epoch: self.epoch }
    }
}

/// An assignment of a partition, until its revocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assignment<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) epoch: u64,
}

/// Bytes held by all partitions, and messages held by one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// Limits that are still exceeded after a wait.
#[derive(Debug, Default)]
pub(crate) struct ExceededLimits {
    /// `true` if all partitions together hold too many bytes.
    pub(crate) is_full: bool,
    /// Partitions that hold too many messages.
    pub(crate) partitions: HashSet<TopicPartition>,
}

/// Partitions to pause, and partitions to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) pause: Vec<TopicPartition>,
    pub(crate) resume: Vec<TopicPartition>,
}

/// Final state of a revoked partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) partition: TopicPartition,
    /// The last offset to store, if it moved.
    pub(crate) finished: Option<i64>,
    /// `true` if the partition was paused. It must be resumed if it is assigned again.
    pub(crate) paused: bool,
    /// `true` if no message of the partition is running.
    pub(crate) drained: bool,
}

impl Partitions {
    /// Adds partitions that were assigned to this instance.
    pub(crate) fn assign(&self, keys: impl IntoIterator<Item = TopicPartition>) {
        let mut table = self.lock();
        for key in keys {
            table.assigned.entry(key).or_insert_with(Partition::new);
        }
    }

    /// Returns whether a partition is assigned to this instance.
    pub(crate) fn is_assigned(&self, key: &TopicPartition) -> bool {
        self.lock().assigned.contains_key(key)
    }

    /// Takes a polled message. Returns `None` if it was finished before a stop, since a dead letter
    /// must not be attempted again.
    pub(crate) fn enter(&self, record: &Record) -> Option<Ticket> {
        let mut table = self.lock();
        let partition = (record.topic.clone(), record.partition);
        let Record { offset, timestamp, .. } = *record;
        let entry = table.assigned.entry(partition.clone()).or_insert_with(Partition::new);
        if entry.next.is_some_and(|next| offset < next) {
            // The topic was created again: messages in progress and finished ones belong to the old
            // one.
            *entry = Partition { paused: entry.paused, revoked: entry.revoked, ..Partition::new() };
        }
        entry.stored.get_or_insert(offset);
        entry.skip_to(offset);
        entry.next = Some(offset + 1);
        if entry.was_finished(offset) {
            return None;
        }
        let size = record.size() + OVERHEAD;
        entry.unfinished.insert(offset, Unfinished { timestamp, size });
        entry.bytes += size;
        Some(Ticket { partition, epoch: entry.epoch, offset })
    }

    /// Returns the partitions that were assigned since the last call.
    pub(crate) fn take_assigned(&self) -> Vec<TopicPartition> {
        let mut table = self.lock();
        let new = table.assigned.iter_mut().filter(|(_, partition)| !partition.is_start_asked);
        let taken = new.map(|(key, partition)| {
            partition.is_start_asked = true;
            key.clone()
        });
        taken.collect()
    }

    /// Records the offset that was committed before an assignment, from which nothing was stored
    /// yet.
    pub(crate) fn starts_at(&self, key: &TopicPartition, committed: i64) {
        let mut table = self.lock();
        let Some(partition) = table.assigned.get_mut(key) else { return };
        match partition.stored {
            Some(first) if first > committed => partition.skip(committed..first),
            Some(_) => {}
            None => partition.start = Some(committed),
        }
    }

    /// Takes the longest range of offsets without a message that was found since the last call.
    /// They never were messages, or were deleted.
    pub(crate) fn take_skipped(&self, key: &TopicPartition) -> Option<Range<i64>> {
        let mut table = self.lock();
        let partition = table.assigned.get_mut(key)?;
        let skipped = partition.skipped.take()?;
        partition.looked_until = skipped.end;
        Some(skipped)
    }

    /// Takes a report that the client has read a partition up to an offset and all its messages
    /// were polled. Offsets after the last message are then not messages, but, for example,
    /// transaction markers.
    ///
    /// Reports are some seconds apart and contain figures up to a second old, and a pause discards
    /// messages that were read and not polled. So a report counts only if the next one is equal,
    /// with no message in between.
    pub(crate) fn has_read(&self, key: &TopicPartition, end: i64) {
        let mut table = self.lock();
        let Some(partition) = table.assigned.get_mut(key).filter(|it| !it.paused) else { return };
        let report = Some((end, partition.next));
        if partition.read != report {
            partition.read = report;
        } else if partition.next.is_none_or(|next| next < end) {
            partition.skip_to(end);
            partition.next = Some(end);
        }
    }

    /// Returns a ticket for a message of a scan, which can be attempted but is not recorded, so
    /// that it is read again. Returns `None` if it was finished before the stop, or its partition
    /// was revoked.
    pub(crate) fn look_at(&self, record: &Record) -> Option<Ticket> {
        let mut table = self.lock();
        let partition = (record.topic.clone(), record.partition);
        let entry = table.assigned.get_mut(&partition)?;
        if entry.next.is_none() {
            entry.skip_to(record.offset);
            entry.next = Some(record.offset);
        }
        let is_new = !entry.was_finished(record.offset);
        is_new.then_some(Ticket { partition, epoch: entry.epoch, offset: record.offset })
    }

    /// Releases queued and parked messages of every partition, and running ones after `within`.
    /// Returns the offsets from which the partitions have to be read again, or `None` for a
    /// partition of which nothing was read. The partitions count as paused.
    pub(crate) fn stop(&self, within: Duration) -> Vec<(TopicPartition, Option<i64>)> {
        let mut table = self.lock();
        for partition in table.assigned.values_mut() {
            partition.revoked = true;
        }
        let running = |table: &mut Table| table.assigned.values().any(|it| it.running > 0);
        let (mut table, _) = self.wait_while(table, within, running);
        table.oldest_when_stopped = table.oldest();
        table.stopped = true;
        for partition in table.assigned.values_mut() {
            *partition = partition.to_be_read_again();
        }
        self.voided.send_modify(|times| *times += 1);
        table.assigned.iter().map(|(key, it)| (key.clone(), it.next)).collect()
    }

    /// Returns whether all partitions are stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Marks all assigned partitions as paused, and returns those that were not.
    pub(crate) fn pause_all(&self) -> Vec<TopicPartition> {
        self.set_all_paused(true)
    }

    /// Ends a stop, and returns the assigned partitions that were paused. Tickets of scanned
    /// messages become void, since these are read again.
    pub(crate) fn resume_all(&self) -> Vec<TopicPartition> {
        let mut table = self.lock();
        table.stopped = false;
        for partition in table.assigned.values_mut() {
            (partition.epoch, partition.running) = (next_epoch(), 0);
        }
        drop(table);
        self.set_all_paused(false)
    }

    fn set_all_paused(&self, paused: bool) -> Vec<TopicPartition> {
        let mut table = self.lock();
        let others = table.assigned.iter_mut().filter(|(_, it)| it.paused != paused);
        let set = others.map(|(key, partition)| {
            partition.paused = paused;
            partition.read = None;
            key.clone()
        });
        set.collect()
    }

    /// Returns all assigned partitions with their positions.
    pub(crate) fn all(&self) -> Vec<(TopicPartition, Option<i64>)> {
        let table = self.lock();
        table.assigned.iter().map(|(key, it)| (key.clone(), it.position())).collect()
    }

    /// Returns the partitions of a topic with their positions.
    pub(crate) fn positions(&self, topic: &str) -> Vec<(TopicPartition, Option<i64>)> {
        let table = self.lock();
        let of_topic = table.assigned.iter().filter(|((it, _), _)| it == topic);
        of_topic.map(|(key, partition)| (key.clone(), partition.position())).collect()
    }

    /// Returns a count that changes when tickets have become void.
    pub(crate) fn voided(&self) -> watch::Receiver<u64> {
        self.voided.subscribe()
    }

    /// Returns the offset up to which all messages of an assigned partition are finished, or `None`
    /// if it is unknown.
    pub(crate) fn position(&self, key: &TopicPartition) -> Option<i64> {
        self.lock().assigned.get(key).and_then(Partition::position)
    }

    /// Returns whether a message's partition is still assigned to this instance.
    pub(crate) fn has(&self, ticket: &Ticket) -> bool {
        self.lock().of(ticket).is_some_and(|partition| !partition.revoked)
    }

    /// Waits while a condition holds, which the end of a running message may change.
    fn wait_while<'t>(
        &'t self,
        mut table: MutexGuard<'t, Table>,
        within: Duration,
        condition: impl FnMut(&mut Table) -> bool,
    ) -> (MutexGuard<'t, Table>, WaitTimeoutResult) {
        table.waiting += 1;
        let waited = self.idle.wait_timeout_while(table, within, condition);
        let (mut table, result) = waited.unwrap_or_else(PoisonError::into_inner);
        table.waiting -= 1;
        (table, result)
    }

    /// Starts a message. Returns `None` if its partition was revoked or all partitions are being
    /// closed: the next owner of the partition receives the message.
    pub(crate) fn begin(self: &Arc<Self>, ticket: &Ticket) -> Option<InProgress> {
        let mut table = self.lock();
        if table.closed {
            return None;
        }
        let partition = table.of(ticket).filter(|partition| !partition.revoked)?;
        partition.running += 1;
        let ticket = Ticket { partition: ticket.partition.clone(), ..*ticket };
        Some(InProgress { partitions: Arc::clone(self), ticket, finished: false })
    }

    /// Returns the offsets that may be stored now, each the last before the first unfinished
    /// message.
    pub(crate) fn take_finished(&self) -> Vec<(TopicPartition, i64)> {
        let mut table = self.lock();
        let finished = table.assigned.iter_mut();
        finished.filter_map(|(key, p)| Some((key.clone(), p.take_finished()?))).collect()
    }

    /// Returns the timestamp of the oldest unfinished message, in milliseconds since 1970.
    pub(crate) fn oldest(&self) -> Option<i64> {
        let table = self.lock();
        if table.stopped { table.oldest_when_stopped } else { table.oldest() }
    }

    /// Returns how many bytes are held: queued, parked, or being processed.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Returns what all partitions hold in bytes, and one of them in messages.
    pub(crate) fn load(&self, key: &TopicPartition) -> Load {
        let table = self.lock();
        Load { bytes: table.bytes(), messages: table.messages(key) }
    }

    /// Waits for at most `within` until a partition holds fewer messages than that. Returns `false`
    /// after a timeout. Does not wait for a partition that is paused or no longer assigned.
    pub(crate) fn await_fewer(
        &self,
        key: &TopicPartition,
        messages: usize,
        within: Duration,
    ) -> bool {
        let is_more = |table: &mut Table| table.messages(key) >= messages;
        let table = self.lock();
        if table.assigned.get(key).is_none_or(|partition| partition.paused) {
            return true;
        }
        !self.wait_while(table, within, is_more).1.timed_out()
    }

    /// Waits for at most `within` until fewer than `bytes` bytes are held. Returns `false` after a
    /// timeout.
    pub(crate) fn await_less(&self, bytes: usize, within: Duration) -> bool {
        let is_more = |table: &mut Table| table.bytes() >= bytes;
        !self.wait_while(self.lock(), within, is_more).1.timed_out()
    }

    /// Releases partitions. Drops queued messages, and waits for running ones, together for at most
    /// `within`, or not at all after `close`.
    pub(crate) fn revoke(&self, keys: Vec<TopicPartition>, within: Duration) -> Vec<Revoked> {
        let mut table = self.lock();
        for key in &keys {
            if let Some(partition) = table.assigned.get_mut(key) {
                partition.revoked = true;
            }
        }
        let within = if table.closed { Duration::ZERO } else { within };
        let running = |table: &mut Table| {
            keys.iter().any(|key| table.assigned.get(key).is_some_and(|p| p.running > 0))
        };
        let (mut table, _) = self.wait_while(table, within, running);
        let give_up = |key: TopicPartition| {
            let mut partition = table.assigned.remove(&key);
            Revoked {
                partition: key,
                finished: partition.as_mut().and_then(Partition::take_finished),
                paused: partition.as_ref().is_some_and(|p| p.paused),
                drained: partition.is_none_or(|p| p.running == 0),
            }
        };
        let revoked = keys.into_iter().map(give_up).collect();
        self.voided.send_modify(|times| *times += 1);
        revoked
    }

    /// Prevents new starts, and waits for running messages. Returns `false` if one still ran at the
    /// end.
    pub(crate) fn close(&self, within: Duration) -> bool {
        let mut table = self.lock();
        table.closed = true;
        let running = |table: &mut Table| table.assigned.values().any(|p| p.running > 0);
        let (mut table, _) = self.wait_while(table, within, running);
        !running(&mut table)
    }

    /// Returns the partitions to pause, because for too long they held too many messages or all
    /// together too many bytes, and the partitions to resume, since they are below half of the
    /// limit. Parked messages do not become fewer: after [`LONG`] most of the limit suffices.
    pub(crate) fn pressure(
        &self,
        max_messages: usize,
        max_bytes: usize,
        full: &ExceededLimits,
    ) -> Pressure {
        let mut pressure = Pressure::default();
        let mut table = self.lock();
        let bytes = table.bytes();
        let too_many_bytes = full.is_full && bytes >= max_bytes;
        for (key, partition) in &mut table.assigned {
            let messages = partition.unfinished.len();
            // An empty partition pauses too, since its next fetch may return more.
            let too_many = full.partitions.contains(key) && messages >= max_messages;
            let is_long = partition.relieved_since.is_none_or(|since| since.elapsed() >= LONG);
            let enough = |max: usize| if is_long { max - max.div_ceil(8) } else { max / 2 };
            let has_room = messages <= enough(max_messages) && bytes <= enough(max_bytes);
            if !partition.paused && (too_many || too_many_bytes) {
                partition.paused = true;
                partition.relieved_since = Some(Instant::now());
                partition.read = None;
                pressure.pause.push(key.clone());
            } else if partition.paused && has_room {
                partition.paused = false;
                partition.read = None;
                pressure.resume.push(key.clone());
            }
        }
        pressure
    }

    /// Locks the table. It is consistent even if a thread panicked while holding it: every change
    /// is a few plain stores.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn oldest(&self) -> Option<i64> {
        let firsts = self.assigned.values().filter_map(|it| it.unfinished.values().next());
        firsts.filter_map(|first| first.timestamp).min()
    }

    fn bytes(&self) -> usize {
        self.assigned.values().map(|partition| partition.bytes).sum()
    }

    fn messages(&self, key: &TopicPartition) -> usize {
        self.assigned.get(key).map_or(0, |partition| partition.unfinished.len())
    }

    fn of(&mut self, ticket: &Ticket) -> Option<&mut Partition> {
        self.assigned.get_mut(&ticket.partition).filter(|p| p.epoch == ticket.epoch)
    }
}

impl Partition {
    /// Creates a new assignment without messages.
    fn new() -> Self {
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
    fn to_be_read_again(&self) -> Self {
        let reread = self.next.map(|next| {
            let before = self.reread.iter().flat_map(|it| &it.unfinished);
            let before = before.filter(|offset| **offset >= next).copied();
            RereadRange {
                until: self.reread.as_ref().map_or(next, |it| it.until.max(next)),
                unfinished: self.unfinished.keys().copied().chain(before).collect(),
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

    fn was_finished(&self, offset: i64) -> bool {
        self.reread.as_ref().is_some_and(|it| it.was_finished(offset))
    }

    /// Records the offsets without a message in front of this one.
    fn skip_to(&mut self, offset: i64) {
        self.skip(self.next.or(self.start).unwrap_or(offset)..offset);
    }

    fn skip(&mut self, skipped: Range<i64>) {
        let skipped = skipped.start.max(self.looked_until)..skipped.end;
        let length = |range: &Range<i64>| range.end - range.start;
        if length(&skipped) > self.skipped.as_ref().map_or(0, length) {
            self.skipped = Some(skipped);
        }
    }

    fn finish(&mut self, offset: i64) {
        if let Some(finished) = self.unfinished.remove(&offset) {
            self.bytes -= finished.size;
        }
    }

    fn position(&self) -> Option<i64> {
        self.unfinished.keys().next().copied().or(self.next)
    }

    /// Returns the last offset before the position, if the position has moved since the last call.
    fn take_finished(&mut self) -> Option<i64> {
        let position = self.position().filter(|position| Some(*position) != self.stored)?;
        self.stored = Some(position);
        Some(position - 1)
    }
}

/// A running message. If dropped without [`InProgress::finish`], it counts as unfinished.
#[derive(Debug)]
pub(crate) struct InProgress {
    partitions: Arc<Partitions>,
    ticket: Ticket,
    finished: bool,
}

impl InProgress {
    /// Marks the message as finished.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut table = self.partitions.lock();
        if let Some(partition) = table.of(&self.ticket) {
            partition.running -= 1;
            if self.finished {
                partition.finish(self.ticket.offset);
            }
        }
        let is_awaited = table.waiting > 0;
        drop(table);
        if is_awaited {
            self.partitions.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: Some(vec![0; 100]),
            headers: kafka::Headers::new(),
        }
    }

    fn finish(partitions: &Arc<Partitions>, ticket: &Ticket) {
        partitions.begin(ticket).expect("assigned").finish();
    }

    #[test]
    fn the_offset_stored_is_the_contiguous_prefix() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            [3, 4, 7, 9].map(|offset| partitions.enter(&record(offset)).expect("new")).into();
        finish(&partitions, &tickets[1]);
        finish(&partitions, &tickets[3]);
        assert_eq!(partitions.take_finished(), []);
        finish(&partitions, &tickets[0]);
        // 5 and 6 are no messages: there was none between 4 and 7.
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 6)]);
        assert_eq!(partitions.take_finished(), [], "stored once");
        finish(&partitions, &tickets[2]);
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 9)]);
    }

    #[test]
    fn the_longest_range_without_messages_is_found_once() {
        let partitions = Partitions::default();
        let key = ("t".to_owned(), 0);
        for offset in [3, 4] {
            partitions.enter(&record(offset)).expect("new");
        }
        assert_eq!(partitions.take_skipped(&key), None, "nobody knows what was before the first");
        for offset in [6, 106, 110, 111] {
            partitions.enter(&record(offset)).expect("new");
        }
        assert_eq!(partitions.take_skipped(&key), Some(7..106));
        assert_eq!(partitions.take_skipped(&key), None);
    }

    #[test]
    fn what_is_read_again_after_a_stop_is_not_missing_once_more() {
        let partitions = Arc::new(Partitions::default());
        let key = ("t".to_owned(), 0);
        let tickets: Vec<_> =
            [7, 100].map(|offset| partitions.enter(&record(offset)).expect("new")).into();
        assert_eq!(partitions.take_skipped(&key), Some(8..100));
        finish(&partitions, &tickets[1]);
        partitions.stop(Duration::ZERO);
        partitions.resume_all();
        partitions.enter(&record(150)).expect("new");
        assert_eq!(partitions.take_skipped(&key), Some(101..150), "7 is one at most");
    }

    #[test]
    fn a_partition_that_was_read_to_an_end_without_messages_has_skipped_them() {
        let partitions = Partitions::default();
        let key = ("t".to_owned(), 0);
        partitions.assign([key.clone()]);
        partitions.starts_at(&key, 50);
        for _ in 0..2 {
            partitions.has_read(&key, 100);
        }
        assert_eq!(partitions.take_skipped(&key), Some(50..100));
    }

    #[test]
    fn what_is_missing_after_the_committed_offset_is_found_whenever_that_is_known() {
        let key = ("t".to_owned(), 0);
        for is_known_first in [true, false] {
            let partitions = Partitions::default();
            partitions.assign([key.clone()]);
            assert_eq!(partitions.take_assigned(), std::slice::from_ref(&key));
            assert_eq!(partitions.take_assigned(), [], "asked once");
            if is_known_first {
                partitions.starts_at(&key, 100);
            }
            partitions.enter(&record(5_000)).expect("new");
            if !is_known_first {
                partitions.starts_at(&key, 100);
            }
            assert_eq!(partitions.take_skipped(&key), Some(100..5_000));
        }
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_finished() {
        let partitions = Arc::new(Partitions::default());
        let written = |offset, timestamp| Record { timestamp: Some(timestamp), ..record(offset) };
        let tickets = [(0, 300), (1, 100), (2, 200)]
            .map(|it| partitions.enter(&written(it.0, it.1)).expect("new"));
        assert_eq!(partitions.oldest(), Some(300));
        finish(&partitions, &tickets[1]);
        finish(&partitions, &tickets[0]);
        assert_eq!(partitions.oldest(), Some(200));
        finish(&partitions, &tickets[2]);
        assert_eq!(partitions.oldest(), None);
    }

    #[test]
    fn what_was_begun_and_dropped_is_not_done() {
        let partitions = Arc::new(Partitions::default());
        let ticket = partitions.enter(&record(3)).expect("new");
        drop(partitions.begin(&ticket));
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn a_revoked_partition_cancels_what_is_queued_and_waits_for_what_runs() {
        let partitions = Arc::new(Partitions::default());
        let (first, second) = (
            partitions.enter(&record(0)).expect("new"),
            partitions.enter(&record(1)).expect("new"),
        );
        let running = partitions.begin(&first).expect("assigned");
        let during = Arc::clone(&partitions);
        let worker = std::thread::spawn(move || {
            // The revocation waits for this, so the partition is seen while it is being given up.
            while !during.lock().assigned[&("t".into(), 0)].revoked {
                std::thread::yield_now();
            }
            assert!(during.begin(&second).is_none(), "nothing more begins meanwhile");
            running.finish();
            second
        });
        let key = ("t".to_owned(), 0);
        let revoked = partitions.revoke(vec![key.clone()], Duration::from_secs(10));
        let second = worker.join().expect("no panic");
        let drained = Revoked { partition: key, finished: Some(0), paused: false, drained: true };
        assert_eq!(revoked, [drained]);
        assert!(partitions.begin(&second).is_none());

        let redelivered = partitions.enter(&record(1)).expect("new");
        assert!(partitions.begin(&second).is_none(), "an earlier assignment's ticket stays void");
        assert!(partitions.begin(&redelivered).is_some());
    }

    #[test]
    fn a_zombie_that_finishes_late_moves_nothing() {
        let partitions = Arc::new(Partitions::default());
        let ticket = partitions.enter(&record(0)).expect("new");
        let zombie = partitions.begin(&ticket).expect("assigned");
        assert_eq!(partitions.revoke(vec![("t".into(), 0)], Duration::ZERO)[0].finished, None);
        partitions.enter(&record(0)).expect("new");
        zombie.finish();
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn what_ran_in_a_topic_that_was_made_anew_holds_up_nothing() {
        let partitions = Arc::new(Partitions::default());
        let old = [
            partitions.enter(&record(6)).expect("new"),
            partitions.enter(&record(7)).expect("new"),
        ];
        let running = partitions.begin(&old[1]).expect("assigned");
        finish(&partitions, &old[0]);
        partitions.enter(&record(0)).expect("new");
        assert_eq!(partitions.take_finished(), [], "offset 6 is one of the topic that is gone");
        assert!(partitions.close(Duration::ZERO), "nothing runs in the new one");
        running.finish();
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn what_is_no_message_is_behind_once_the_client_has_read_beyond_it() {
        let partitions = Arc::new(Partitions::default());
        let key = ("t".to_owned(), 0);
        let last = partitions.enter(&record(3)).expect("new");
        partitions.has_read(&key, 5);
        finish(&partitions, &partitions.enter(&record(4)).expect("new"));
        partitions.has_read(&key, 6);
        assert_eq!(partitions.position(&key), Some(3));
        partitions.has_read(&key, 6);
        assert_eq!(partitions.take_finished(), [], "the message before is not finished");
        finish(&partitions, &last);
        assert_eq!(partitions.take_finished(), [(key.clone(), 5)]);
        assert_eq!(partitions.position(&key), Some(6));
        (0..2).for_each(|_| partitions.has_read(&key, 2));
        assert_eq!(partitions.take_finished(), [], "an older report changes nothing");
    }

    #[test]
    fn what_was_finished_before_a_stop_is_not_begun_again() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            (0..5).map(|it| partitions.enter(&record(it)).expect("new")).collect();
        for done in [0, 2, 4] {
            finish(&partitions, &tickets[done]);
        }
        let key = ("t".to_owned(), 0);
        assert_eq!(partitions.stop(Duration::ZERO), [(key.clone(), Some(1))]);
        assert!(partitions.begin(&tickets[1]).is_none(), "it was given up");
        let first = partitions.enter(&record(1)).expect("it was not finished");
        finish(&partitions, &first);
        // Stopped again before all was read again.
        assert_eq!(partitions.stop(Duration::ZERO), [(key, Some(2))]);
        let read: Vec<_> = (2..7).map(|it| partitions.enter(&record(it))).collect();
        let begun: Vec<_> = read.iter().map(Option::is_some).collect();
        assert_eq!(begun, [false, true, false, true, true]);
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 2)]);
    }

    #[test]
    fn pressure_has_hysteresis() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            (0..4).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
        let key = ("t".to_owned(), 0);
        let full = ExceededLimits { is_full: true, partitions: HashSet::from([key.clone()]) };
        assert_eq!(partitions.pressure(4, usize::MAX, &full).pause, std::slice::from_ref(&key));
        assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default());
        finish(&partitions, &tickets[0]);
        assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default());
        finish(&partitions, &tickets[1]);
        assert_eq!(partitions.pressure(4, usize::MAX, &full).resume, std::slice::from_ref(&key));
        assert_eq!(partitions.pressure(4, 100, &full).pause, [key], "bytes count as well");
    }

    #[test]
    fn messages_that_stay_do_not_keep_the_rest_of_the_room_empty() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            (0..8).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
        let key = ("t".to_owned(), 0);
        let full = ExceededLimits { partitions: [key.clone()].into(), ..ExceededLimits::default() };
        let pressure = || partitions.pressure(8, usize::MAX, &full);
        assert_eq!(pressure().pause, std::slice::from_ref(&key));
        finish(&partitions, &tickets[0]);
        assert_eq!(pressure(), Pressure::default(), "there may be half of the room soon");
        let since = Instant::now().checked_sub(LONG);
        partitions.lock().assigned.get_mut(&key).expect("assigned").relieved_since = since;
        assert_eq!(pressure().resume, [key]);
    }

    #[test]
    fn bytes_of_all_partitions_count_together() {
        let partitions = Arc::new(Partitions::default());
        let of = |partition| Record { partition, ..record(0) };
        let tickets: Vec<_> = (0..4).map(|it| partitions.enter(&of(it)).expect("new")).collect();
        let held = partitions.bytes();
        let full = ExceededLimits { is_full: true, ..ExceededLimits::default() };
        assert_eq!(partitions.pressure(100, held + 1, &full), Pressure::default());
        assert_eq!(partitions.pressure(100, held, &full).pause.len(), 4);
        tickets[..2].iter().for_each(|ticket| finish(&partitions, ticket));
        assert_eq!(partitions.pressure(100, held, &full).resume.len(), 4);
        tickets[2..].iter().for_each(|ticket| finish(&partitions, ticket));
        assert_eq!(partitions.bytes(), 0);
    }

    #[test]
    fn bytes_pause_only_once_waiting_made_no_room() {
        let partitions = Arc::new(Partitions::default());
        let ticket = partitions.enter(&record(0)).expect("new");
        let held = partitions.bytes();
        assert_eq!(partitions.pressure(100, held, &ExceededLimits::default()), Pressure::default());
        assert!(!partitions.await_less(held, Duration::from_millis(1)), "nobody finishes it");
        std::thread::scope(|scope| {
            scope.spawn(|| finish(&partitions, &ticket));
            assert!(partitions.await_less(held, Duration::from_mins(1)));
        });
    }

    #[test]
    fn messages_pause_a_partition_only_once_waiting_made_no_room() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            (0..4).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
        let key = ("t".to_owned(), 0);
        assert_eq!(partitions.load(&key).messages, 4);
        assert_eq!(
            partitions.pressure(4, usize::MAX, &ExceededLimits::default()),
            Pressure::default()
        );
        assert!(!partitions.await_fewer(&key, 4, Duration::from_millis(1)), "nobody finishes one");
        std::thread::scope(|scope| {
            scope.spawn(|| finish(&partitions, &tickets[0]));
            assert!(partitions.await_fewer(&key, 4, Duration::from_mins(1)));
        });
        let full = ExceededLimits {
            partitions: HashSet::from([key.clone()]),
            ..ExceededLimits::default()
        };
        assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default(), "one is done");
        assert_eq!(partitions.pressure(3, usize::MAX, &full).pause, std::slice::from_ref(&key));
        assert!(partitions.await_fewer(&key, 0, Duration::from_mins(1)), "it is paused");
    }

    #[test]
    fn what_is_done_behind_a_message_that_waits_takes_no_room() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> =
            (0..50).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
        tickets[1..].iter().for_each(|ticket| finish(&partitions, ticket));
        assert_eq!(partitions.take_finished(), [], "the first one waits");
        let key = ("t".to_owned(), 0);
        let full = ExceededLimits { is_full: true, partitions: HashSet::from([key.clone()]) };
        assert_eq!(partitions.pressure(4, 2_000, &full), Pressure::default());
        assert!(partitions.await_fewer(&key, 4, Duration::from_millis(1)));
    }
}
