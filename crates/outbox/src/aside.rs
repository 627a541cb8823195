use std::collections::BTreeMap;

/// Rows of a topic, a partition or a key that the scan of new rows passes over, since they can't be sent for now. They are
/// read lane by lane, a lane being a topic in a shard, each from the id on that was left first.
#[derive(Clone, Default, Debug)]
pub(crate) struct Aside {
    after: BTreeMap<i16, i64>,
    /// A record was refused: what is under way behind it must come back first, so that all of it is sent again in order.
    drains_first: bool,
}

impl Aside {
    /// Leaves the rows of these shards with ids above `after`.
    pub(crate) fn of(shards: &[i16], after: i64) -> Self {
        let after = shards.iter().map(|shard| (*shard, after)).collect();
        Self { after, drains_first: false }
    }

    /// Leaves the rows of a shard from this id on.
    pub(crate) fn leave(&mut self, shard: i16, id: i64) {
        self.leave_behind(shard, id, i64::MAX);
    }

    /// Leaves the rows of a shard from this id on, and what becomes visible later with a lower id: if nothing of the shard
    /// was left yet, its lane begins after `wider`, where the wider scope stands that they would be read with.
    pub(crate) fn leave_behind(&mut self, shard: i16, id: i64, wider: i64) {
        let after = self.after.entry(shard).or_insert(wider);
        *after = (*after).min(id - 1);
    }

    /// Leaves them because this one was refused.
    pub(crate) fn leave_refused(&mut self, shard: i16, id: i64) {
        self.leave(shard, id);
        self.drains_first = true;
    }

    /// Returns whether all records of its scope must have come back before it is read. Asked when it is about to be read.
    pub(crate) fn drains_first(&self) -> bool {
        self.drains_first
    }

    /// Notes that nothing of its scope is under way any more.
    pub(crate) fn drained(&mut self) {
        self.drains_first = false;
    }

    /// Returns whether a row belongs to what was left.
    pub(crate) fn covers(&self, shard: i16, id: i64) -> bool {
        self.after.get(&shard).is_some_and(|after| id > *after)
    }

    /// Returns the id after which a shard is to be read, if something of it was left.
    pub(crate) fn place(&self, shard: i16) -> Option<i64> {
        self.after.get(&shard).copied()
    }

    /// Returns how many lanes there are.
    pub(crate) fn len(&self) -> usize {
        self.after.len()
    }

    /// Returns the lanes, each with the id after which it is to be read.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (i16, i64)> {
        self.after.iter().map(|(shard, after)| (*shard, *after))
    }

    /// Returns whether a lane that was to be read from `after` on was left from an earlier row on meanwhile.
    pub(crate) fn is_reopened(&self, shard: i16, after: i64) -> bool {
        self.after.get(&shard).is_some_and(|now| *now < after)
    }

    /// Moves a lane on that was read from `after` on, unless it is reopened. `None`: it was read to its end.
    pub(crate) fn advance(&mut self, shard: i16, after: i64, covered: Option<i64>) {
        if self.is_reopened(shard, after) {
            return;
        }
        match (covered, self.after.get_mut(&shard)) {
            (Some(covered), Some(place)) => *place = (*place).max(covered),
            (Some(_), None) => {}
            (None, _) => self.forget(shard),
        }
    }

    /// Forgets a lane.
    pub(crate) fn forget(&mut self, shard: i16) {
        self.after.remove(&shard);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.after.is_empty()
    }
}
