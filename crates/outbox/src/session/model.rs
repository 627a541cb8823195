//! Tests with random interleavings of commits and refusals, checked against a model: the events of
//! a key are sent in order, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka::rdkafka::error::RDKafkaErrorCode;
use sqlx::{Postgres, Transaction};

use super::tests::{Stage, insert, shared};
use super::{Session, Shards};

const KEYS: usize = 8;
const STEPS: usize = 250;
/// Refusals of a record, of a partition and of a topic.
const CODES: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::InvalidRecord,
    RDKafkaErrorCode::NotEnoughReplicas,
    RDKafkaErrorCode::TopicAuthorizationFailed,
];

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A transaction that has not ended, and the ids and keys of its events.
type Writer = (Transaction<'static, Postgres>, Vec<(i64, usize)>);

struct Model<'a> {
    stage: &'a Stage,
    session: Session<'static>,
    random: Random,
    partitions: usize,
    /// The key of each event that was committed, and of those Kafka has.
    committed: BTreeMap<i64, usize>,
    delivered: BTreeSet<i64>,
    /// Records in flight that Kafka will refuse, and those behind a refused one of their key.
    doomed: BTreeSet<i64>,
    void: BTreeSet<i64>,
    writing: Vec<Writer>,
}

impl Model<'_> {
    async fn step(&mut self) {
        match self.random.below(15) {
            0 | 1 => self.write().await,
            2 => self.commit().await,
            3 => self.session.horizon.look(self.session.shards.session()).await.unwrap().unwrap(),
            4 | 5 => self.read(true).await,
            6 | 7 => self.read(false).await,
            8 | 9 => self.acknowledge(),
            10 => self.refuse(),
            11 | 12 => self.receive_random_metadata(),
            13 => self.commit_late().await,
            _ => self.share().await,
        }
    }

    /// Writes in a transaction, which locks its keys until it ends.
    async fn write(&mut self) {
        let mut writer = self.stage.pool.begin().await.unwrap();
        let is_held =
            |key| self.writing.iter().any(|(_, rows)| rows.iter().any(|(_, of)| *of == key));
        let free: Vec<_> = (0..KEYS).filter(|key| !is_held(*key)).collect();
        let mut rows = Vec::new();
        for _ in 0..=self.random.below(3) {
            if !free.is_empty() {
                let key = free[self.random.below(free.len())];
                rows.push((insert(&mut *writer, shard(key), &name(key)).await, key));
            }
        }
        self.writing.push((writer, rows));
        if self.writing.len() > 3 || self.random.below(3) > 0 {
            self.commit().await;
        }
    }

    async fn commit(&mut self) {
        if !self.writing.is_empty() {
            let which = self.random.below(self.writing.len());
            let (writer, rows) = self.writing.swap_remove(which);
            writer.commit().await.unwrap();
            self.committed.extend(rows);
        }
    }

    /// Events that were written long ago become visible, and a later one of their key with them,
    /// after others of their partition were left aside. Those are read before the new rows are.
    async fn commit_late(&mut self) {
        if self.writing.is_empty() {
            return;
        }
        let (mut writer, mut rows) = self.writing.remove(0);
        if let Some((_, key)) = rows.first().copied() {
            let count = i32::try_from(self.partitions).unwrap();
            let without_leader = kafka::partition_of(name(key).as_bytes(), count);
            self.session.receive_metadata(self.partitions, &[without_leader]);
            self.read(true).await;
            rows.push((insert(&mut *writer, shard(key), &name(key)).await, key));
        }
        writer.commit().await.unwrap();
        self.committed.extend(rows);
        self.session.receive_metadata(self.partitions, &[]);
        self.session.expire_pauses();
        self.read(false).await;
    }

    async fn read(&mut self, is_new: bool) {
        let before: BTreeSet<_> = self.session.under_way().into_iter().collect();
        if is_new {
            self.session.new_rows().await;
        } else {
            self.session.left_rows().await;
        }
        let under_way: BTreeSet<_> = self.session.under_way().into_iter().collect();
        for id in under_way.difference(&before) {
            assert!(!self.delivered.contains(id), "{id} is sent again");
            let key = self.committed[id];
            let earlier = self.committed.range(..id).filter(|(_, of)| **of == key);
            let overtaken = earlier.map(|(id, _)| id);
            let overtaken: Vec<_> = overtaken
                .filter(|id| !self.delivered.contains(*id))
                .filter(|id| !under_way.contains(*id) || self.void.contains(*id))
                .collect();
            assert!(overtaken.is_empty(), "{id} overtakes {overtaken:?} of its key");
        }
    }

    /// Returns the records in flight of a random partition, in the order of their ids.
    fn of_some_partition(&mut self) -> Vec<i64> {
        let count = i32::try_from(self.partitions).unwrap();
        let chosen = i32::try_from(self.random.below(self.partitions)).unwrap();
        let mut ids = self.session.under_way();
        ids.retain(|id| kafka::partition_of(name(self.committed[id]).as_bytes(), count) == chosen);
        ids
    }

    fn acknowledge(&mut self) {
        let mut ids = self.of_some_partition();
        let doomed: BTreeSet<_> = self.doomed.iter().map(|id| self.committed[id]).collect();
        ids.retain(|id| !doomed.contains(&self.committed[id]));
        let some = self.random.below(ids.len() + 1);
        for id in &ids[..some] {
            self.session.acknowledge(*id);
            assert!(self.delivered.insert(*id));
        }
    }

    /// Refuses records in flight of one partition, one after the other, for various reasons.
    fn refuse(&mut self) {
        if self.doomed.is_empty() {
            self.doomed = self.of_some_partition().into_iter().collect();
        }
        for _ in 0..=self.random.below(2) {
            let Some(id) = self.doomed.pop_first() else { return };
            let behind = self.session.under_way().into_iter().filter(|it| *it > id);
            self.void.extend(behind.filter(|it| self.committed[it] == self.committed[&id]));
            self.void.remove(&id);
            let code = CODES[self.random.below(CODES.len())];
            self.session.refuse_with(id, code);
        }
    }

    /// Starts and stops another relay.
    async fn share(&mut self) {
        let mut other = Shards::connect(&self.stage.options).await.unwrap();
        self.session.ticked().await;
        shared(&mut other).await;
        other.release().await;
        self.session.ticked().await;
    }

    /// Lets the cluster answer with random metadata, and time go by.
    fn receive_random_metadata(&mut self) {
        if self.random.below(8) == 0 && self.session.flights.is_empty() {
            self.partitions += 1;
        }
        let leaderless = i32::try_from(self.random.below(2 * self.partitions)).unwrap();
        self.session.receive_metadata(self.partitions, &[leaderless]);
        self.session.expire_pauses();
    }

    async fn finish(&mut self) {
        while !self.writing.is_empty() {
            self.commit().await;
        }
        while !self.doomed.is_empty() {
            self.refuse();
        }
        for _ in 0..300 {
            self.session.horizon.look(self.session.shards.session()).await.unwrap().unwrap();
            self.session.ticked().await;
            self.session.receive_metadata(self.partitions, &[]);
            self.session.expire_pauses();
            self.read(true).await;
            self.read(false).await;
            for id in self.session.under_way() {
                self.session.acknowledge(id);
                assert!(self.delivered.insert(id));
            }
            if self.delivered.len() == self.committed.len() {
                break;
            }
        }
        let lost = self.committed.keys().filter(|id| !self.delivered.contains(id));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<&i64>::new(), "lost");
    }
}

fn name(key: usize) -> String {
    format!("K-{key}")
}

fn shard(key: usize) -> i16 {
    i16::try_from(15 - 4 * (key % 2)).unwrap()
}

#[tokio::test]
async fn whatever_is_refused_events_of_a_key_are_sent_in_order_and_none_is_lost() {
    let began = Instant::now();
    let mut seed = 1;
    while seed <= 3 || began.elapsed() < Duration::from_secs(4) {
        let stage = Stage::new().await;
        let session = stage.session(2).await;
        let mut model = Model {
            stage: &stage,
            session,
            random: Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)),
            partitions: 2,
            committed: BTreeMap::new(),
            delivered: BTreeSet::new(),
            doomed: BTreeSet::new(),
            void: BTreeSet::new(),
            writing: Vec::new(),
        };
        println!("seed {seed}");
        for _ in 0..STEPS {
            model.step().await;
        }
        model.finish().await;
        seed += 1;
    }
}
