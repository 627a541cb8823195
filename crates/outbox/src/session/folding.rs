use super::Session;
use crate::aside::Aside;
use crate::topic::TopicId;

/// How many ids what was left of a partition may lie behind the rows of its siblings: as long as reading these again takes,
/// the siblings' new rows wait.
const NEAR: i64 = 2_000;

impl Session<'_> {
    /// Leaves what was left of a partition to its topic, once the partition takes records again: after an outage, it is read
    /// once for all partitions then. Not if that put its backlog before the rows of siblings that were live meanwhile.
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

    /// Returns whether what was left of a partition begins about where the topic's other rows do, in each shard.
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
        let places = siblings.map(|(_, sibling)| {
            let aside = sibling.aside.as_ref();
            aside.and_then(|aside| aside.place(shard)).unwrap_or(topics)
        });
        places.max().unwrap_or(topics)
    }
}
