use std::time::{Instant, SystemTime};

use super::completing::RefusedRecord;
use super::{Scope, Session};
use crate::in_flight::InFlightRecord;
use crate::refusal::Refusal;
use crate::row::Row;
use crate::sender::{Outgoing, SendError};
use crate::topic::TopicId;

/// Result of offering a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offered {
    Sent,
    /// The row belongs to another scope, or was left aside for one.
    Passed,
    /// The row can't be sent for now and belongs to the scope being read: the lane is read again
    /// from here on.
    Blocked,
}

/// Why a row can't be sent for now: the scope without room, or paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Obstacle {
    Topic,
    Partition,
    Key,
}

impl Session<'_> {
    /// Sends a row. If its key, partition or topic can't be written, leaves that aside from this
    /// row on. So later rows of its key never overtake it: they belong to the same scope, whose
    /// rows are read in the order of ids.
    ///
    /// `prepared` is what was made of a row that was `selected` when it arrived.
    pub(super) fn offer(
        &mut self,
        row: &Row<'_>,
        prepared: Option<Outgoing>,
        scope: &Scope,
        selected: SystemTime,
    ) -> Offered {
        match self.admit(row, scope) {
            Ok((id, partition)) => self.send(row, prepared, id, partition, scope, selected),
            Err(offered) => offered,
        }
    }

    /// Returns the topic and the partition to which a row may be sent, or leaves it aside.
    fn admit(&mut self, row: &Row<'_>, scope: &Scope) -> Result<(TopicId, i32), Offered> {
        let now = Instant::now();
        let id = self.topics.id(row.topic);
        let topic = self.topics.get_mut(id);
        if topic.mark_exported() {
            self.instruments.export(row.topic);
        }
        if *scope == Scope::New
            && let Some(aside) = &mut topic.aside
        {
            aside.leave(row.shard, row.id);
            return Err(Offered::Passed);
        }
        let (Some(count), Some(_)) = (topic.count(), topic.confirmed) else {
            return Err(self.leave(row, id, 0, scope, Obstacle::Topic));
        };
        let partition = kafka::partition_of(row.key.as_bytes(), count);
        if !self.is_of(row, id, partition, scope) {
            return Err(Offered::Passed);
        }
        match self.obstacle(row, id, partition, scope, now) {
            Some(obstacle) => Err(self.leave(row, id, partition, scope, obstacle)),
            None => Ok((id, partition)),
        }
    }

    /// Returns whether a row is sent when this scope is read. A row belongs to the narrowest scope
    /// with rows left aside, like all rows of its key, so that they are read in order.
    fn is_of(&mut self, row: &Row<'_>, id: TopicId, number: i32, scope: &Scope) -> bool {
        let wider = self.stands_at(id, row.shard);
        let topic = self.topics.get_mut(id);
        match scope {
            Scope::Partition(_, other) if *other != number => return false,
            Scope::Key(_, key) => return **key == *row.key,
            _ => {}
        }
        if let Some(aside) = topic.keys.get_mut(row.key).and_then(|key| key.aside.as_mut()) {
            aside.leave(row.shard, row.id);
            return false;
        }
        if !matches!(scope, Scope::Partition(..))
            && let Some(aside) = topic.partition_mut(number).and_then(|it| it.aside.as_mut())
        {
            aside.leave_behind(row.shard, row.id, wider);
            return false;
        }
        true
    }

    /// Returns the id up to which every row of a topic in a shard is gone, in flight, or left aside
    /// for a partition or a key. It is never above the horizon, so rows that become visible later
    /// are above it.
    ///
    /// Rows left aside for a partition begin there. Its other keys may have earlier events that are
    /// not visible yet; events of one key become visible in order.
    pub(super) fn stands_at(&self, topic: TopicId, shard: i16) -> i64 {
        let aside = self.topics.get(topic).aside.as_ref();
        let after = aside.and_then(|aside| aside.after(shard)).unwrap_or(self.after);
        self.shards.left_at(shard).map_or(after, |left| after.min(left))
    }

    fn obstacle(
        &mut self,
        row: &Row<'_>,
        id: TopicId,
        number: i32,
        scope: &Scope,
        now: Instant,
    ) -> Option<Obstacle> {
        let topic = self.topics.get_mut(id);
        if !topic.is_open(now) {
            return Some(Obstacle::Topic);
        }
        let refused = topic.keys.get(row.key);
        if refused.is_some_and(|refused| !refused.is_open(now, &self.flights, id, row.key)) {
            return Some(Obstacle::Key);
        }
        let is_retry = refused.is_some_and(|refused| refused.pause.is_some());
        let Some(partition) = topic.partition_mut(number) else { return Some(Obstacle::Topic) };
        let under_way = self.flights.load(id, number).records;
        if partition.is_closed(now, under_way) {
            return Some(Obstacle::Partition);
        }
        if is_retry {
            let awaited = partition.retries.awaited();
            let is_its_turn = under_way == 0 && awaited.is_some_and(|key| **key == *row.key);
            return (!is_its_turn).then_some(Obstacle::Key);
        }
        if partition.retries.is_on() {
            return Some(Obstacle::Partition);
        }
        let room = partition.room(now);
        if self.flights.has_room(id, number, row.cost().max(partition.wanted), room) {
            if row.cost() >= partition.wanted {
                partition.wanted = 0;
            }
            return None;
        }
        partition.wanted = partition.wanted.max(row.cost());
        // While the partition is being retried, the other partitions do not wait for it.
        let is_tried = partition.pause.is_some() || room.window == 0;
        let of_topic = matches!(scope, Scope::New | Scope::Topic(_)) && is_tried;
        Some(if of_topic { Obstacle::Partition } else { Obstacle::Topic })
    }

    /// Leaves a row aside for the scope that can't be sent, unless that scope is being read.
    fn leave(
        &mut self,
        row: &Row<'_>,
        id: TopicId,
        number: i32,
        scope: &Scope,
        obstacle: Obstacle,
    ) -> Offered {
        match (scope, obstacle) {
            (Scope::New, Obstacle::Topic) => self.leave_topic(id).leave(row.shard, row.id),
            (Scope::New | Scope::Topic(_), Obstacle::Partition) => {
                let wider = self.stands_at(id, row.shard);
                let Some(partition) = self.topics.get_mut(id).partition_mut(number) else {
                    return Offered::Blocked;
                };
                let aside = partition.aside.get_or_insert_default();
                aside.leave_behind(row.shard, row.id, wider);
            }
            (Scope::New | Scope::Topic(_) | Scope::Partition(..), Obstacle::Key) => {
                let refused = self.topics.get_mut(id).keys.entry(row.key.into()).or_default();
                refused.aside.get_or_insert_default().leave(row.shard, row.id);
            }
            _ => return Offered::Blocked,
        }
        Offered::Passed
    }

    fn send(
        &mut self,
        row: &Row<'_>,
        prepared: Option<Outgoing>,
        id: TopicId,
        number: i32,
        scope: &Scope,
        selected: SystemTime,
    ) -> Offered {
        let topic = self.topics.get_mut(id);
        let is_retry = topic.keys.get(row.key).is_some_and(|refused| refused.pause.is_some());
        match self.sender.send(row, prepared, &topic.on_cluster, number, selected) {
            Ok(publication) => {
                let Some(partition) = topic.partition_mut(number) else { return Offered::Blocked };
                if self.flights.load(id, number).records == 0 {
                    partition.sent_first(Instant::now());
                }
                if is_retry {
                    partition.retries.sent();
                }
                let window = if is_retry { 0 } else { partition.window.bytes() };
                let (shard, cost) = (row.shard, row.cost());
                let record = InFlightRecord::new(id, number, row.key, shard, cost, publication);
                self.flights.insert(row.id, record, window);
                Offered::Sent
            }
            // A full queue is not a refusal. The whole topic waits, so that no smaller record
            // overtakes.
            Err(SendError::Full(_)) if !self.flights.is_empty() => {
                topic.queue_is_full(Instant::now());
                self.leave(row, id, number, scope, Obstacle::Topic)
            }
            Err(SendError::Full(publication)) => {
                let why = Refusal::LargerThanQueue.why();
                publication.refused(&Refusal::LargerThanQueue, why.clone());
                self.refuse_key(&unsent(row, id, number), &why);
                self.end_unsent_retry(id, number);
                after_refusal(scope)
            }
            Err(SendError::Refused(refusal)) => {
                self.instruments.failed(row.topic);
                self.blame(&refusal, &unsent(row, id, number));
                self.end_unsent_retry(id, number);
                after_refusal(scope)
            }
        }
    }

    /// Ends the retry of a refused key, if there is one, whose record the client did not accept: it
    /// will not complete, and the partition is reserved for it.
    fn end_unsent_retry(&mut self, id: TopicId, number: i32) {
        if let Some(partition) = self.topics.get_mut(id).partition_mut(number) {
            partition.retries.end(Instant::now());
        }
    }
}

/// Describes a row that the client did not accept.
fn unsent<'a>(row: &Row<'a>, topic: TopicId, partition: i32) -> RefusedRecord<'a> {
    let (is_alone, is_void) = (true, false);
    let (shard, id, key, cost) = (row.shard, row.id, row.key, row.cost());
    RefusedRecord { topic, partition, shard, id, key, cost, is_alone, is_void }
}

/// Returns the result for a refused row, which was left aside for its key, partition or topic: a
/// lane of that scope must not pass it.
fn after_refusal(scope: &Scope) -> Offered {
    if *scope == Scope::New { Offered::Passed } else { Offered::Blocked }
}
