use std::time::Instant;

use kafka::rdkafka::error::KafkaError;

use super::{Session, SessionError};
use crate::pause::Pause;
use crate::refusal::{Blame, Refusal};
use crate::sender::Completion;
use crate::topic::TopicId;

impl Session<'_> {
    /// Handles all completions that have come. Fails if the producer will never send again.
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
        if let Some((code, reason)) = self.sender.fatal_error() {
            tracing::warn!(%code, reason, "producer failed for good, a new one takes over");
            self.delete().await?;
            return Err(KafkaError::MessageProduction(code).into());
        }
        Ok(())
    }

    /// Handles a completion.
    pub(super) fn complete(&mut self, completion: Completion) {
        let (id, now) = (completion.id, Instant::now());
        let Some(span) = self.flights.span(id) else { return };
        if let Err(refusal) = completion.outcome(span) {
            self.refuse(id, &refusal);
            return;
        }
        let Some(record) = self.flights.deliver(id, &mut self.published) else { return };
        if !self.published.is_empty() {
            self.published_since.get_or_insert(now);
        }
        self.client_is_full = false;
        let topic = self.topics.get_mut(record.topic);
        topic.acknowledged(record.partition, &record.key, record.cost, now);
        *self.sent.entry(record.topic).or_default() += 1;
    }

    fn refuse(&mut self, id: i64, refusal: &Refusal) {
        let Some(record) = self.flights.refuse(id) else { return };
        self.client_is_full = false;
        self.instruments.failed(&self.topics.get(record.topic).name);
        let place = (record.topic, record.partition);
        let row = (record.shard, id);
        self.blame(refusal, place, row, &record.key, record.is_alone, record.cost);
    }

    /// Leaves aside what a refusal is about: the key of the record, its partition, or its topic.
    pub(super) fn blame(
        &mut self,
        refusal: &Refusal,
        (id, number): (TopicId, i32),
        (shard, row): (i16, i64),
        key: &str,
        is_alone: bool,
        cost: usize,
    ) {
        let (now, why) = (Instant::now(), refusal.why());
        let held = self.flights.load(id, number).cost + cost;
        match refusal.blame() {
            Blame::Nobody => {}
            Blame::Record if is_alone => self.refuse_key(id, (shard, row), key, &why),
            blame @ (Blame::Record | Blame::Partition) => {
                let Some(partition) = self.topics.get_mut(id).partition_mut(number) else { return };
                if blame == Blame::Record {
                    partition.window.refused(held);
                } else {
                    partition.pause(now, &why);
                }
                partition.aside.get_or_insert_default().leave_refused(shard, row);
            }
            Blame::Topic => {
                self.leave_topic(id).leave_refused(shard, row);
                let topic = self.topics.get_mut(id);
                topic.pause(now, &why);
                topic.asked = None;
            }
        }
    }

    /// Leaves a key aside, of which Kafka does not take a record. Many such keys pause the topic.
    pub(super) fn refuse_key(
        &mut self,
        id: TopicId,
        (shard, row): (i16, i64),
        key: &str,
        why: &str,
    ) {
        let now = Instant::now();
        let topic = self.topics.get_mut(id);
        let refused = topic.keys.entry(key.into()).or_default();
        Pause::extend(&mut refused.pause, now, &format!("{why} (outbox id {row})"));
        refused.aside.get_or_insert_default().leave_refused(shard, row);
        if topic.refuses_all_keys() {
            topic.pause(now, why);
            self.leave_topic(id);
        }
    }
}
