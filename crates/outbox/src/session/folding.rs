use super::Session;
use crate::aside::Aside;
use crate::topic::TopicId;

/// Maximum distance in ids between a partition's first row left aside and the rows of its siblings,
/// whose new rows wait while these are read again.
const NEAR: i64 = 2_000;

impl Session<'_> {
    /// Moves a partition's rows left aside to its topic, once the partition accepts records again,
    /// so that after an outage all partitions are read together. Does nothing if that would put the
    /// backlog before the rows of siblings that stayed live.
    pub(super) fn fold(&mut self, id: TopicId, number: i32) {
        let topic = self.topics.get(id);
        let Some(partition) = topic.partition(number) else { return };
        let Some(left) = partition.aside.as_ref().filter(|aside| !aside.drains_first()) else {
            return;
        };
        let are_all_aside = || topic.partitions.iter().all(|it| it.aside.is_some());
        let can_fold = partition.pause.is_none() && (topic.aside.is_some() || are_all_aside());
        if !can_fold || !self.is_near(id, number, left) {
            return;
        }
        let partition = self.topics.get_mut(id).partition_mut(number);
        let Some(left) = partition.and_then(|partition| partition.aside.take()) else { return };
        let aside = self.leave_topic(id);
        for (shard, after) in left.lanes() {
            aside.leave(shard, after.saturating_add(1));
        }
    }

    /// Returns whether a partition's rows left aside begin near the topic's other rows, in each
    /// shard.
    fn is_near(&self, id: TopicId, number: i32, left: &Aside) -> bool {
        left.lanes().all(|(shard, after)| after + NEAR >= self.siblings_stand_at(id, number, shard))
    }

    fn siblings_stand_at(&self, id: TopicId, number: i32, shard: i16) -> i64 {
        let topic = self.topics.get(id);
        let topics = self.stands_at(id, shard);
        if topic.aside.is_some() {
            return topics;
        }
        let siblings = (0..).zip(&topic.partitions).filter(|(other, _)| *other != number);
        let ids = siblings.map(|(_, sibling)| {
            let aside = sibling.aside.as_ref();
            aside.and_then(|aside| aside.after(shard)).unwrap_or(topics)
        });
        ids.max().unwrap_or(topics)
    }
}
