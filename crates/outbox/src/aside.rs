use std::collections::BTreeMap;

/// Rows of a topic, a partition or a key that can't be sent for now, so that the scan of new rows
/// skips them. They are read by lane (a topic in a shard), starting at the first id left aside.
#[derive(Clone, Default, Debug)]
pub(crate) struct Aside {
    after: BTreeMap<i16, i64>,
    /// A record was refused: the records in flight behind it must complete first, so that all are
    /// sent again in order.
    drains_first: bool,
}

impl Aside {
    /// Leaves aside the rows of these shards with ids above `after`.
    pub(crate) fn of(shards: &[i16], after: i64) -> Self {
        let after = shards.iter().map(|shard| (*shard, after)).collect();
        Self { after, drains_first: false }
    }

    /// Leaves aside the rows of a shard from this id on.
    pub(crate) fn leave(&mut self, shard: i16, id: i64) {
        self.leave_behind(shard, id, i64::MAX);
    }

    /// Leaves aside the rows of a shard from this id on, and rows with lower ids that become
    /// visible later: if the shard had no lane yet, its lane begins after `wider`, the position of
    /// the wider scope that includes them.
    pub(crate) fn leave_behind(&mut self, shard: i16, id: i64, wider: i64) {
        let after = self.after.entry(shard).or_insert(wider);
        *after = (*after).min(id - 1);
    }

    /// Leaves aside the rows from a refused one on.
    pub(crate) fn leave_refused(&mut self, shard: i16, id: i64) {
        self.leave(shard, id);
        self.drains_first = true;
    }

    /// Returns whether all records of its scope must complete before it is read.
    pub(crate) fn drains_first(&self) -> bool {
        self.drains_first
    }

    /// Records that no record of its scope is in flight.
    pub(crate) fn drained(&mut self) {
        self.drains_first = false;
    }

    /// Returns whether a row is left aside.
    pub(crate) fn covers(&self, shard: i16, id: i64) -> bool {
        self.after.get(&shard).is_some_and(|after| id > *after)
    }

    /// Returns the id after which a shard has to be read, or `None` if nothing of it is left aside.
    pub(crate) fn after(&self, shard: i16) -> Option<i64> {
        self.after.get(&shard).copied()
    }

    /// Returns the number of lanes.
    pub(crate) fn len(&self) -> usize {
        self.after.len()
    }

    /// Returns the lanes, each with the id after which it has to be read.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (i16, i64)> {
        self.after.iter().map(|(shard, after)| (*shard, *after))
    }

    /// Returns whether an earlier row was left aside since the lane was read from `after` on.
    pub(crate) fn is_reopened(&self, shard: i16, after: i64) -> bool {
        self.after.get(&shard).is_some_and(|current| *current < after)
    }

    /// Advances a lane that was read from `after` on, unless it was reopened. `None` means that it
    /// was read to its end.
    pub(crate) fn advance(&mut self, shard: i16, after: i64, covered: Option<i64>) {
        if self.is_reopened(shard, after) {
            return;
        }
        match (covered, self.after.get_mut(&shard)) {
            (Some(covered), Some(current)) => *current = (*current).max(covered),
            (Some(_), None) => {}
            (None, _) => self.forget(shard),
        }
    }

    /// Removes a lane.
    pub(crate) fn forget(&mut self, shard: i16) {
        self.after.remove(&shard);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.after.is_empty()
    }
}
