//! Messages in progress in each partition: which offset may be stored, and how many bytes are held.

mod partition;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, WaitTimeoutResult};
use std::time::{Duration, Instant};

use kafka::Record;
use tokio::sync::watch;

use self::partition::{Partition, Unfinished, next_epoch};

/// Memory overhead of a message, besides its record.
const OVERHEAD: usize = 512;

/// How long a partition is paused until there is half of the room. It takes half a second to fetch
/// again, so that a pause should not follow at once.
const LONG: Duration = Duration::from_secs(1);

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
    /// Number of times that the group has assigned partitions.
    assignments: u64,
    /// Value of `oldest` at the stop.
    oldest_when_stopped: Option<i64>,
    assigned: HashMap<TopicPartition, Partition>,
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
    /// Adds partitions that were assigned to this instance, if any.
    pub(crate) fn assign(&self, keys: impl IntoIterator<Item = TopicPartition>) {
        let mut table = self.lock();
        table.assignments += 1;
        for key in keys {
            table.assigned.entry(key).or_insert_with(Partition::new);
        }
    }

    /// Returns how many times the group has assigned partitions to this instance, or none.
    pub(crate) fn assignments(&self) -> u64 {
        self.lock().assignments
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
        if entry.next.is_some_and(|next| offset < next) || entry.was_another(record) {
            entry.begin_anew();
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
        if entry.was_another(record) {
            entry.begin_anew();
        }
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
mod tests;
