use std::time::Instant;

use super::admission::Obstacle;
use super::{Reached, Session, SessionError};
use crate::pause::PublishPause;
use crate::refusal::{Blame, Refusal};
use crate::sender::Completion;
use crate::topic::TopicId;

/// A record that is not confirmed to be in Kafka.
pub(super) struct RefusedRecord<'a> {
    pub(super) topic: TopicId,
    pub(super) partition: i32,
    pub(super) shard: i16,
    pub(super) id: i64,
    pub(super) key: &'a str,
    pub(super) cost: usize,
    /// `true` if no other record of its partition was in flight.
    pub(super) is_alone: bool,
    /// `true` if an earlier record of its key was refused while this one was in flight.
    pub(super) is_void: bool,
}

impl Session<'_> {
    /// Handles all completions received so far. Fails after a fatal error of the producer.
    pub(super) async fn complete_all(&mut self) -> Result<(), SessionError> {
        while let Ok(completion) = self.completed.try_recv() {
            self.complete(completion);
        }
        for (topic, count) in std::mem::take(&mut self.sent) {
            self.instruments.sent(&self.topics.get(topic).name, count);
        }
        if !self.published.is_empty() {
            sabotage::may_die("relay.published");
        }
        if let Some(reason) = self.sender.fatal_error() {
            self.delete().await?;
            return Err(SessionError::Producer(reason));
        }
        Ok(())
    }

    /// Handles a completion.
    pub(super) fn complete(&mut self, completion: Completion) {
        let (id, now) = (completion.id, Instant::now());
        let Some(record) = self.flights.get_mut(id) else { return };
        if let Err(refusal) = completion.end(record.take_publication()) {
            self.refuse(id, &refusal);
            return;
        }
        let Some(record) = self.flights.deliver(id, &mut self.published) else { return };
        if !self.published.is_empty() {
            self.published_since.get_or_insert(now);
            self.reached = self.reached.max(Reached::Acknowledged);
        }
        let topic = self.topics.get_mut(record.topic);
        topic.acknowledged(record.partition, &record.key, record.cost, now);
        self.end_retry(record.topic, record.partition);
        self.fold(record.topic, record.partition);
        *self.sent.entry(record.topic).or_default() += 1;
    }

    fn refuse(&mut self, id: i64, refusal: &Refusal) {
        let Some(record) = self.flights.refuse(id) else { return };
        self.instruments.failed(&self.topics.get(record.topic).name);
        let refused = RefusedRecord {
            topic: record.topic,
            partition: record.partition,
            shard: record.shard,
            id,
            key: &record.key,
            cost: record.cost,
            is_alone: record.is_alone,
            is_void: record.is_void(),
        };
        self.blame(refusal, &refused);
        self.end_retry(refused.topic, refused.partition);
    }

    /// Ends the retry of a refused key if its record has completed.
    fn end_retry(&mut self, id: TopicId, number: i32) {
        if self.flights.load(id, number).records == 0
            && let Some(partition) = self.topics.get_mut(id).partition_mut(number)
        {
            partition.retries.returned(Instant::now());
        }
    }

    /// Pauses the scope of a refusal and leaves it aside: the key of the record, its partition, or
    /// its topic.
    pub(super) fn blame(&mut self, refusal: &Refusal, record: &RefusedRecord<'_>) {
        let (now, why) = (Instant::now(), refusal.why());
        let (id, number) = (record.topic, record.partition);
        let held = self.flights.load(id, number).cost + record.cost;
        match refusal.blame() {
            Blame::Nobody => {}
            Blame::Record if record.is_alone => self.refuse_key(record, &why),
            blame @ (Blame::Record | Blame::Partition) => {
                let Some(partition) = self.topics.get_mut(id).partition_mut(number) else { return };
                if blame == Blame::Record {
                    partition.window.refused(held);
                } else {
                    partition.pause(now, &why);
                }
                self.leave_refused(record, Obstacle::Partition);
            }
            Blame::Topic => {
                self.leave_topic(id);
                let topic = self.topics.get_mut(id);
                topic.pause(now, &why);
                topic.confirmed = None;
                self.leave_refused(record, Obstacle::Topic);
            }
        }
    }

    /// Leaves a key aside whose record Kafka refuses. Many such keys pause the topic if it accepts
    /// no record in between, or else their partitions.
    pub(super) fn refuse_key(&mut self, record: &RefusedRecord<'_>, why: &str) {
        let now = Instant::now();
        let topic = self.topics.get_mut(record.topic);
        if !topic.keeps_apart(record.key) {
            if let Some(partition) = topic.partition_mut(record.partition) {
                partition.pause(now, why);
            }
            self.leave_refused(record, Obstacle::Partition);
            return;
        }
        let refused = topic.keys.entry(record.key.into()).or_default();
        PublishPause::extend(&mut refused.pause, now, &format!("{why} (outbox id {})", record.id));
        let is_of_topic = topic.refuses_all_keys(record.key);
        if is_of_topic {
            topic.pause(now, why);
            self.leave_topic(record.topic);
        }
        self.leave_refused(record, Obstacle::Key);
    }

    /// Leaves a refused record aside for a scope and for its existing narrower scopes, which may
    /// have later rows of its key that must not overtake it.
    fn leave_refused(&mut self, record: &RefusedRecord<'_>, scope: Obstacle) {
        // A record in flight behind another refused one of its key is read again with that one.
        if record.is_void || !self.shards.holds(record.shard) {
            return;
        }
        let (shard, id) = (record.shard, record.id);
        if scope == Obstacle::Topic {
            self.leave_topic(record.topic).leave_refused(shard, id);
        }
        let wider = self.stands_at(record.topic, shard);
        let topic = self.topics.get_mut(record.topic);
        if scope != Obstacle::Key
            && let Some(partition) = topic.partition_mut(record.partition)
        {
            if scope == Obstacle::Partition {
                partition.aside.get_or_insert_default();
            }
            if let Some(aside) = &mut partition.aside {
                aside.leave_behind(shard, id, wider);
                aside.leave_refused(shard, id);
            }
        }
        if scope == Obstacle::Key {
            let refused = topic.keys.entry(record.key.into()).or_default();
            refused.aside.get_or_insert_default();
        }
        if let Some(aside) = topic.keys.get_mut(record.key).and_then(|key| key.aside.as_mut()) {
            aside.leave_refused(shard, id);
        }
    }
}
