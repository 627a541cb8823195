use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use telemetry::Publication;

use crate::prepared::SHARDS;
use crate::topic::TopicId;

/// Maximum bytes in flight.
pub(crate) const CAPACITY: usize = 16 * 1024 * 1024;
/// Maximum share of a partition: one that can't be written must leave room for the others.
const SHARE: usize = CAPACITY / 8;
/// Reserve for partitions that acknowledge, regardless of how many others do not.
const RESERVE: usize = CAPACITY / 4;
/// A record of up to this size may be sent to any empty partition, to find out whether it
/// acknowledges.
const PROBE: usize = 64 * 1024;
/// Divisor of the free bytes that a partition may hold: however many partitions stop acknowledging,
/// they leave room for the next one.
const SHARE_OF_FREE: usize = 16;
/// Maximum cost of a record, so that even an oversized one that is not acknowledged leaves room for
/// others.
pub(crate) const LARGEST_COST: usize = SHARE;
/// Memory overhead of a record, in the relay and in the client.
pub(crate) const OVERHEAD: usize = 1024;

/// A record that was passed to the producer.
#[derive(Debug)]
pub(crate) struct InFlightRecord {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    pub(crate) key: Arc<str>,
    pub(crate) shard: i16,
    pub(crate) cost: usize,
    /// `true` if no other record of its partition is in flight, so that a refusal concerns this
    /// record.
    pub(crate) is_alone: bool,
    /// `None` if nobody observes it, or once Kafka has answered.
    publication: Option<Box<Publication>>,
    state: State,
}

/// Limits of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) window: usize,
    /// `true` if it has acknowledged a record recently.
    pub(crate) is_live: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    UnderWay,
    /// In Kafka, while an earlier record of its key is not confirmed.
    Delivered,
    /// An earlier record of its key was refused: this record is published again after it,
    /// regardless of Kafka's answer.
    Void,
}

impl InFlightRecord {
    pub(crate) fn new(
        topic: TopicId,
        partition: i32,
        key: &str,
        shard: i16,
        cost: usize,
        publication: Option<Box<Publication>>,
    ) -> Self {
        let state = State::UnderWay;
        Self { topic, partition, key: key.into(), shard, cost, is_alone: false, publication, state }
    }

    /// Takes the publication, once Kafka has answered.
    pub(crate) fn take_publication(&mut self) -> Option<Box<Publication>> {
        self.publication.take()
    }

    /// Returns whether an earlier record of its key was refused while this one was in flight.
    pub(crate) fn is_void(&self) -> bool {
        self.state == State::Void
    }
}

/// The records in flight, by the id of their row: one map for all topics, bounded in bytes.
///
/// Completions arrive in any order. For each key of a topic, only rows before its first unconfirmed
/// record may be deleted.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    records: BTreeMap<i64, InFlightRecord>,
    topics: Vec<TopicLoad>,
    shards: [usize; SHARDS.unsigned_abs() as usize],
    used: usize,
}

/// The records in flight of a topic.
#[derive(Default, Debug)]
struct TopicLoad {
    records: usize,
    /// By number.
    partitions: Vec<PartitionLoad>,
    /// The unconfirmed records of each key.
    keys: HashMap<Arc<str>, KeyQueue>,
    /// Number of void records by key.
    void: HashMap<Arc<str>, usize>,
}

/// Ids of a key's unconfirmed records, ascending. Most keys have one, which takes no allocation.
#[derive(Debug)]
struct KeyQueue {
    first: i64,
    others: VecDeque<i64>,
}

impl KeyQueue {
    /// Removes the first id. Returns `false` if it was the only one.
    fn pop(&mut self) -> bool {
        self.others.pop_front().map(|next| self.first = next).is_some()
    }
}

/// The records in flight of a partition.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PartitionLoad {
    pub(crate) records: usize,
    pub(crate) cost: usize,
    /// `true` if its only record must stay alone.
    is_alone: bool,
}

impl InFlight {
    /// Returns the number of free bytes.
    pub(crate) fn free(&self) -> usize {
        CAPACITY.saturating_sub(self.used)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut InFlightRecord> {
        self.records.get_mut(&id)
    }

    /// Returns all records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &InFlightRecord> {
        self.records.values()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.records.contains_key(&id)
    }

    /// Returns all ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.records.keys().copied()
    }

    /// Returns the ids above this one.
    pub(crate) fn above(&self, id: i64) -> impl Iterator<Item = i64> {
        self.records.range(id.saturating_add(1)..).map(|(id, _)| *id)
    }

    pub(crate) fn load(&self, topic: TopicId, partition: i32) -> PartitionLoad {
        let number = usize::try_from(partition).unwrap_or(usize::MAX);
        let load = self.topics.get(topic.index()).and_then(|it| it.partitions.get(number));
        load.copied().unwrap_or_default()
    }

    pub(crate) fn of_topic(&self, topic: TopicId) -> usize {
        self.topics.get(topic.index()).map_or(0, |it| it.records)
    }

    pub(crate) fn of_shard(&self, shard: i16) -> usize {
        usize::try_from(shard).ok().and_then(|shard| self.shards.get(shard).copied()).unwrap_or(0)
    }

    /// Returns whether a record of the key is in flight.
    pub(crate) fn has_key(&self, topic: TopicId, key: &str) -> bool {
        let topic = self.topics.get(topic.index());
        topic.is_some_and(|it| it.keys.contains_key(key) || it.void.contains_key(key))
    }

    /// Returns the counts of a record's partition, topic and shard.
    fn loads(
        &mut self,
        topic: TopicId,
        partition: i32,
        shard: i16,
    ) -> (&mut TopicLoad, usize, &mut usize) {
        let (index, number) = (topic.index(), usize::try_from(partition).unwrap_or_default());
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, TopicLoad::default);
        }
        let topic = &mut self.topics[index];
        if topic.partitions.len() <= number {
            topic.partitions.resize_with(number + 1, PartitionLoad::default);
        }
        let shard = usize::try_from(shard).unwrap_or_default() % self.shards.len();
        (topic, number, &mut self.shards[shard])
    }

    /// Returns the maximum bytes in flight of a partition: its window, bounded by an eighth of the
    /// capacity and by a part of the free bytes.
    pub(crate) fn allowance(&self, room: Room) -> usize {
        room.window.min(SHARE).min(self.free_to(room) / SHARE_OF_FREE)
    }

    fn free_to(&self, room: Room) -> usize {
        if room.is_live { self.free() } else { self.free().saturating_sub(RESERVE) }
    }

    /// Returns whether a record fits. An empty partition takes a record of any size that leaves as
    /// much for others. A record sent to find out whether a partition acknowledges leaves half of
    /// the reserve to partitions that do.
    pub(crate) fn has_room(&self, topic: TopicId, partition: i32, cost: usize, room: Room) -> bool {
        let held = self.load(topic, partition);
        if held.records == 0 {
            let probe = PROBE.min(self.free().saturating_sub(RESERVE / 2) / 2);
            return cost <= (self.free_to(room) / 2).max(probe);
        }
        !held.is_alone && held.cost + cost <= self.allowance(room)
    }

    pub(crate) fn insert(&mut self, id: i64, mut record: InFlightRecord, window: usize) {
        let (topic, number, of_shard) = self.loads(record.topic, record.partition, record.shard);
        *of_shard += 1;
        topic.records += 1;
        let load = &mut topic.partitions[number];
        record.is_alone = load.records == 0 && record.cost >= window;
        load.is_alone = record.is_alone;
        load.records += 1;
        load.cost += record.cost;
        match topic.keys.entry(Arc::clone(&record.key)) {
            Entry::Occupied(mut queue) => queue.get_mut().others.push_back(id),
            Entry::Vacant(new) => _ = new.insert(KeyQueue { first: id, others: VecDeque::new() }),
        }
        self.used += record.cost;
        self.records.insert(id, record);
    }

    /// Records that Kafka has a record. Returns it, and appends the ids of the rows that may be
    /// deleted now to `published`.
    pub(crate) fn deliver(&mut self, id: i64, published: &mut Vec<i64>) -> Option<Completed> {
        let record = self.records.get_mut(&id)?;
        let completed = Completed::of(record);
        if record.state == State::Void {
            self.records.remove(&id);
            self.release(&completed);
            self.void_returned(completed.topic, &completed.key);
            return Some(completed);
        }
        record.state = State::Delivered;
        self.release(&completed);
        let keys = &mut self.topics[completed.topic.index()].keys;
        let Some(queue) = keys.get_mut(&*completed.key) else { return Some(completed) };
        while self.records.get(&queue.first).is_some_and(|it| it.state == State::Delivered) {
            self.records.remove(&queue.first);
            published.push(queue.first);
            if !queue.pop() {
                keys.remove(&*completed.key);
                break;
            }
        }
        Some(completed)
    }

    /// Records that a record is not in Kafka. Its row and later rows of its key stay. Returns the
    /// record.
    pub(crate) fn refuse(&mut self, id: i64) -> Option<InFlightRecord> {
        let record = self.records.remove(&id)?;
        self.release(&Completed::of(&record));
        if record.is_void() {
            self.void_returned(record.topic, &record.key);
        }
        let TopicLoad { keys, void, .. } = &mut self.topics[record.topic.index()];
        let Some(queue) = keys.get_mut(&*record.key) else { return Some(record) };
        let behind = if queue.first == id {
            std::mem::take(&mut queue.others)
        } else if let Some(index) = queue.others.iter().position(|other| *other == id) {
            queue.others.split_off(index)
        } else {
            return Some(record);
        };
        if queue.first == id {
            keys.remove(&*record.key);
        }
        for behind in behind {
            match self.records.get_mut(&behind) {
                Some(record) if record.state == State::UnderWay => {
                    record.state = State::Void;
                    *void.entry(Arc::clone(&record.key)).or_default() += 1;
                }
                Some(_) => drop(self.records.remove(&behind)),
                None => {}
            }
        }
        Some(record)
    }

    fn void_returned(&mut self, topic: TopicId, key: &str) {
        let void = &mut self.topics[topic.index()].void;
        if let Some(records) = void.get_mut(key) {
            *records -= 1;
            if *records == 0 {
                void.remove(key);
            }
        }
    }

    fn release(&mut self, record: &Completed) {
        self.used -= record.cost;
        let (topic, number, of_shard) = self.loads(record.topic, record.partition, record.shard);
        *of_shard -= 1;
        topic.records -= 1;
        topic.partitions[number].records -= 1;
        topic.partitions[number].cost -= record.cost;
    }
}

/// A record with Kafka's answer.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    pub(crate) key: Arc<str>,
    pub(crate) cost: usize,
    shard: i16,
}

impl Completed {
    fn of(record: &InFlightRecord) -> Self {
        Self {
            topic: record.topic,
            partition: record.partition,
            key: Arc::clone(&record.key),
            cost: record.cost,
            shard: record.shard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1_000_000;
    const LIVE: Room = Room { window: WINDOW, is_live: true };
    const SILENT: Room = Room { window: WINDOW, is_live: false };

    fn put(flights: &mut InFlight, id: i64, partition: i32, key: &str, cost: usize) {
        let record = InFlightRecord::new(TopicId::FIRST, partition, key, 0, cost, None);
        flights.insert(id, record, WINDOW);
    }

    #[test]
    fn completions_come_in_any_order_and_only_the_prefix_of_a_key_is_deleted() {
        let mut flights = InFlight::default();
        for (id, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "a")] {
            put(&mut flights, id, 0, key, 10);
        }
        let mut published = Vec::new();
        flights.deliver(3, &mut published);
        assert!(published.is_empty(), "an earlier one of its key is under way");
        flights.deliver(2, &mut published);
        flights.deliver(1, &mut published);
        assert_eq!(published, [2, 1, 3]);
        flights.deliver(4, &mut published);
        assert_eq!(published, [2, 1, 3, 4]);
        assert!(flights.is_empty());
        assert_eq!((flights.free(), flights.of_topic(TopicId::FIRST)), (CAPACITY, 0));
    }

    #[test]
    fn what_is_behind_a_refused_record_of_its_key_stays_whether_it_was_delivered_or_not() {
        let mut flights = InFlight::default();
        for (id, key) in [(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "b")] {
            put(&mut flights, id, 0, key, 10);
        }
        let mut published = Vec::new();
        flights.deliver(3, &mut published);
        flights.deliver(1, &mut published);
        flights.refuse(2);
        assert!(flights.has_key(TopicId::FIRST, "a"), "the last one has no answer yet");
        flights.deliver(4, &mut published);
        flights.deliver(5, &mut published);
        assert_eq!(published, [1, 5]);
        assert!(flights.is_empty() && !flights.has_key(TopicId::FIRST, "a"));
        assert_eq!(flights.free(), CAPACITY);
    }

    #[test]
    fn partitions_that_stand_still_leave_room_for_others() {
        let mut flights = InFlight::default();
        let mut id = 0;
        let mut fill = |flights: &mut InFlight, partition| {
            while flights.has_room(TopicId::FIRST, partition, 4_000, LIVE) {
                id += 1;
                put(flights, id, partition, "a", 4_000);
            }
            flights.load(TopicId::FIRST, partition).cost
        };
        for partition in 0..40 {
            assert!(fill(&mut flights, partition) <= CAPACITY / 8);
        }
        assert!(flights.free() > 1_000_000, "each took a share of what was left");
        assert!(fill(&mut flights, 40) > 50_000);
    }

    #[test]
    fn a_record_that_is_larger_than_a_share_goes_by_itself() {
        let mut flights = InFlight::default();
        let large = LARGEST_COST;
        assert!(flights.has_room(TopicId::FIRST, 0, large, LIVE));
        put(&mut flights, 1, 0, "a", large);
        assert!(!flights.has_room(TopicId::FIRST, 0, 1, LIVE), "a smaller one does not overtake");
        put(&mut flights, 2, 1, "b", 10);
        assert!(!flights.has_room(TopicId::FIRST, 1, large, LIVE));
        assert!(flights.records[&1].is_alone && !flights.records[&2].is_alone);
        for partition in 2..40 {
            if flights.has_room(TopicId::FIRST, partition, large, LIVE) {
                put(&mut flights, 1 + i64::from(partition), partition, "c", large);
            }
        }
        assert!(
            flights.has_room(TopicId::FIRST, 40, 50_000, LIVE),
            "they leave room for smaller ones"
        );
    }

    #[test]
    fn however_many_partitions_stand_still_others_go_on_and_a_new_one_is_tried() {
        let mut flights = InFlight::default();
        let mut id = 0;
        for partition in 0..500 {
            while flights.has_room(TopicId::FIRST, partition, 4_000, SILENT) {
                id += 1;
                put(&mut flights, id, partition, "a", 4_000);
            }
        }
        assert!(flights.has_room(TopicId::FIRST, 500, 50_000, SILENT), "a first record");
        put(&mut flights, id + 1, 500, "b", 4_000);
        assert!(!flights.has_room(TopicId::FIRST, 500, 4_000, SILENT), "and no more");
        assert!(flights.has_room(TopicId::FIRST, 500, 100_000, LIVE), "until it acknowledges");
    }

    #[test]
    fn first_records_of_partitions_that_stand_still_leave_half_of_the_reserve() {
        let mut flights = InFlight::default();
        for partition in 0..5_000 {
            if flights.has_room(TopicId::FIRST, partition, 4_000, SILENT) {
                put(&mut flights, i64::from(partition), partition, "a", 4_000);
            }
        }
        assert!(flights.free() >= RESERVE / 2, "{}", flights.free());
        put(&mut flights, 5_000, 5_000, "b", 4_000);
        assert!(flights.has_room(TopicId::FIRST, 5_000, 100_000, LIVE));
    }
}
