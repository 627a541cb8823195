//! What is under way in each partition: which offset may be stored, and how much is queued.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka::Record;

/// How many messages that are done, behind one that is not, weigh as much as one that is queued.
const DONE_PER_QUEUED: usize = 100;

/// Counts the assignments of this process, so that none is taken for one of an earlier run.
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
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    assigned: HashMap<TopicPartition, Partition>,
}

#[derive(Debug)]
struct Partition {
    /// Tells this assignment from an earlier one of the same partition.
    epoch: u64,
    /// Messages taken and not yet behind the contiguous prefix, in the order of their offsets.
    pending: VecDeque<Pending>,
    /// Those of them that are not finished.
    queued: usize,
    bytes: usize,
    running: usize,
    /// Last offset of the prefix, if it moved since it was last stored.
    finished: Option<i64>,
    paused: bool,
    /// It is being given up: nothing more begins.
    revoked: bool,
}

#[derive(Debug)]
struct Pending {
    offset: i64,
    /// When it was written, in milliseconds since 1970.
    timestamp: Option<i64>,
    size: usize,
    finished: bool,
}

/// A message's place in its partition.
#[derive(Debug)]
pub(crate) struct Ticket {
    partition: TopicPartition,
    epoch: u64,
    offset: i64,
}

impl Ticket {
    /// The assignment that it belongs to.
    pub(crate) fn assignment(&self) -> Assignment<'_> {
        Assignment { partition: &self.partition, epoch: self.epoch }
    }
}

/// A partition, from when it was assigned until it is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assignment<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) epoch: u64,
}

/// Partitions that should pause, and those that may go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) pause: Vec<TopicPartition>,
    pub(crate) resume: Vec<TopicPartition>,
}

/// What a partition leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) partition: TopicPartition,
    /// The last offset to store, if it moved.
    pub(crate) finished: Option<i64>,
    /// It was paused, and must not be when it comes back.
    pub(crate) paused: bool,
    /// Nothing of it still runs.
    pub(crate) drained: bool,
}

impl Partitions {
    /// A message was taken from Kafka.
    pub(crate) fn enter(&self, record: &Record) -> Ticket {
        let mut table = self.lock();
        let partition = (record.topic.clone(), record.partition);
        let entry = table.assigned.entry(partition.clone()).or_insert_with(Partition::new);
        if entry.pending.back().is_some_and(|last| last.offset >= record.offset) {
            // The topic was made anew: what is under way, and what is finished, belongs to the old one.
            *entry = Partition { paused: entry.paused, revoked: entry.revoked, ..Partition::new() };
        }
        let size = record.size();
        entry.queued += 1;
        let Record { offset, timestamp, .. } = *record;
        entry.pending.push_back(Pending { offset, timestamp, size, finished: false });
        entry.bytes += size;
        let epoch = entry.epoch;
        Ticket { partition, epoch, offset: record.offset }
    }

    /// Returns whether a message's partition is still assigned to this instance.
    pub(crate) fn has(&self, ticket: &Ticket) -> bool {
        self.lock().of(ticket).is_some_and(|partition| !partition.revoked)
    }

    /// Asks for leave to work on a message. None: its partition belongs to another instance by now, or
    /// everything is being closed; whoever has the partition next will get the message.
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

    /// The offsets that may be stored by now: the last one of each contiguous prefix.
    pub(crate) fn take_finished(&self) -> Vec<(TopicPartition, i64)> {
        let mut table = self.lock();
        let finished = table.assigned.iter_mut();
        finished.filter_map(|(key, p)| Some((key.clone(), p.finished.take()?))).collect()
    }

    /// When the oldest message was written that is not finished, in milliseconds since 1970.
    pub(crate) fn oldest(&self) -> Option<i64> {
        // What is first in its partition is not finished, or it would not be there.
        let table = self.lock();
        let firsts = table.assigned.values().filter_map(|partition| partition.pending.front());
        firsts.filter_map(|first| first.timestamp).min()
    }

    /// Gives partitions up: what is queued in any of them is dropped, what runs is waited for, all together at
    /// most so long, and not at all once everything was closed.
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
        let waited = self.idle.wait_timeout_while(table, within, running);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let give_up = |key: TopicPartition| {
            let partition = table.assigned.remove(&key);
            let partition = partition.as_ref();
            Revoked {
                partition: key,
                finished: partition.and_then(|p| p.finished),
                paused: partition.is_some_and(|p| p.paused),
                drained: partition.is_none_or(|p| p.running == 0),
            }
        };
        keys.into_iter().map(give_up).collect()
    }

    /// Lets nothing more begin, and waits for what runs. False: something still ran at the end.
    pub(crate) fn close(&self, within: Duration) -> bool {
        let mut table = self.lock();
        table.closed = true;
        let running = |table: &mut Table| table.assigned.values().any(|p| p.running > 0);
        let waited = self.idle.wait_timeout_while(table, within, running);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !running(&mut table)
    }

    /// Which partitions have too much queued, and which of the paused ones have half of it left.
    pub(crate) fn pressure(&self, max_messages: usize, max_bytes: usize) -> Pressure {
        let mut pressure = Pressure::default();
        for (key, partition) in &mut self.lock().assigned {
            // An offset that is done takes a few bytes, but not none.
            let messages = partition.queued.max(partition.pending.len() / DONE_PER_QUEUED);
            let bytes = partition.bytes;
            if !partition.paused && (messages >= max_messages || bytes >= max_bytes) {
                partition.paused = true;
                pressure.pause.push(key.clone());
            } else if partition.paused && messages <= max_messages / 2 && bytes <= max_bytes / 2 {
                partition.paused = false;
                pressure.resume.push(key.clone());
            }
        }
        pressure
    }

    /// The table is whole even if a thread died holding it: every change to it is a few plain stores.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&mut self, ticket: &Ticket) -> Option<&mut Partition> {
        self.assigned.get_mut(&ticket.partition).filter(|p| p.epoch == ticket.epoch)
    }
}

impl Partition {
    /// Creates one of which nothing is under way, in an assignment of its own.
    fn new() -> Self {
        Self {
            epoch: next_epoch(),
            pending: VecDeque::new(),
            queued: 0,
            bytes: 0,
            running: 0,
            finished: None,
            paused: false,
            revoked: false,
        }
    }

    fn finish(&mut self, offset: i64) {
        if let Ok(at) = self.pending.binary_search_by_key(&offset, |pending| pending.offset) {
            self.pending[at].finished = true;
            // What is done takes no more room, also behind a message that waits for its retry.
            self.queued -= 1;
            self.bytes -= self.pending[at].size;
        }
        while let Some(done) = self.pending.pop_front_if(|pending| pending.finished) {
            self.finished = Some(done.offset);
        }
    }
}

/// A message that is worked on. Dropped without [`InProgress::finish`], it counts as not done.
#[derive(Debug)]
pub(crate) struct InProgress {
    partitions: Arc<Partitions>,
    ticket: Ticket,
    finished: bool,
}

impl InProgress {
    /// The message is dealt with for good.
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
        self.partitions.idle.notify_all();
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
            headers: Vec::new(),
        }
    }

    fn finish(partitions: &Arc<Partitions>, ticket: &Ticket) {
        partitions.begin(ticket).expect("assigned").finish();
    }

    #[test]
    fn the_offset_stored_is_the_contiguous_prefix() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> = [3, 4, 7, 9].map(|offset| partitions.enter(&record(offset))).into();
        finish(&partitions, &tickets[1]);
        finish(&partitions, &tickets[3]);
        assert_eq!(partitions.take_finished(), []);
        finish(&partitions, &tickets[0]);
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 4)]);
        assert_eq!(partitions.take_finished(), [], "stored once");
        finish(&partitions, &tickets[2]);
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 9)]);
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_finished() {
        let partitions = Arc::new(Partitions::default());
        let written = |offset, timestamp| Record { timestamp: Some(timestamp), ..record(offset) };
        let tickets =
            [(0, 300), (1, 100), (2, 200)].map(|it| partitions.enter(&written(it.0, it.1)));
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
        let ticket = partitions.enter(&record(3));
        drop(partitions.begin(&ticket));
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn a_revoked_partition_cancels_what_is_queued_and_waits_for_what_runs() {
        let partitions = Arc::new(Partitions::default());
        let (first, second) = (partitions.enter(&record(0)), partitions.enter(&record(1)));
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

        let redelivered = partitions.enter(&record(1));
        assert!(partitions.begin(&second).is_none(), "an earlier assignment's ticket stays void");
        assert!(partitions.begin(&redelivered).is_some());
    }

    #[test]
    fn a_zombie_that_finishes_late_moves_nothing() {
        let partitions = Arc::new(Partitions::default());
        let ticket = partitions.enter(&record(0));
        let zombie = partitions.begin(&ticket).expect("assigned");
        assert_eq!(partitions.revoke(vec![("t".into(), 0)], Duration::ZERO)[0].finished, None);
        partitions.enter(&record(0));
        zombie.finish();
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn what_ran_in_a_topic_that_was_made_anew_holds_up_nothing() {
        let partitions = Arc::new(Partitions::default());
        let old = [partitions.enter(&record(6)), partitions.enter(&record(7))];
        let running = partitions.begin(&old[1]).expect("assigned");
        finish(&partitions, &old[0]);
        partitions.enter(&record(0));
        assert_eq!(partitions.take_finished(), [], "offset 6 is one of the topic that is gone");
        assert!(partitions.close(Duration::ZERO), "nothing runs in the new one");
        running.finish();
        assert_eq!(partitions.take_finished(), []);
    }

    #[test]
    fn pressure_has_hysteresis() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> = (0..4).map(|offset| partitions.enter(&record(offset))).collect();
        let key = ("t".to_owned(), 0);
        assert_eq!(partitions.pressure(4, usize::MAX).pause, std::slice::from_ref(&key));
        assert_eq!(partitions.pressure(4, usize::MAX), Pressure::default());
        finish(&partitions, &tickets[0]);
        assert_eq!(partitions.pressure(4, usize::MAX), Pressure::default());
        finish(&partitions, &tickets[1]);
        assert_eq!(partitions.pressure(4, usize::MAX).resume, std::slice::from_ref(&key));
        assert_eq!(partitions.pressure(4, 100).pause, [key], "bytes count as well");
    }

    #[test]
    fn what_is_done_behind_a_message_that_waits_takes_no_room() {
        let partitions = Arc::new(Partitions::default());
        let tickets: Vec<_> = (0..50).map(|offset| partitions.enter(&record(offset))).collect();
        tickets[1..].iter().for_each(|ticket| finish(&partitions, ticket));
        assert_eq!(partitions.take_finished(), [], "the first one waits");
        assert_eq!(partitions.pressure(4, 1000), Pressure::default());
    }

    #[test]
    fn a_topic_that_was_made_anew_begins_anew() {
        let partitions = Arc::new(Partitions::default());
        let old = partitions.enter(&record(7));
        let new = partitions.enter(&record(0));
        assert!(partitions.begin(&old).is_none());
        finish(&partitions, &new);
        assert_eq!(partitions.take_finished(), [(("t".into(), 0), 0)]);
    }

    #[test]
    fn nothing_begins_after_closing() {
        let partitions = Arc::new(Partitions::default());
        let ticket = partitions.enter(&record(0));
        let running = partitions.begin(&ticket).expect("assigned");
        assert!(!partitions.close(Duration::ZERO), "one still runs");
        assert!(partitions.begin(&ticket).is_none());
        running.finish();
        assert!(partitions.close(Duration::ZERO));
    }
}
