use std::time::Duration;

/// A partition of a topic on the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TopicPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// Lag of a group in one partition.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct PartitionLag {
    pub(crate) at: TopicPartition,
    /// `None` if the group has never committed there.
    pub(crate) committed: Option<i64>,
    /// The first offset that is kept, and the one after the last.
    pub(crate) ends: Ends,
    /// Number of messages that were not consumed.
    pub(crate) messages: u64,
    /// Age of the oldest of them. Zero if there are none, `None` if it could not be read.
    pub(crate) age: Option<Duration>,
    /// Number of messages that were deleted before they were consumed.
    pub(crate) lost: u64,
    /// Age of the oldest message as a share of the topic's retention. `None` if either is unknown.
    pub(crate) share_of_retention: Option<f64>,
    /// How long the group has been observed at this position without progress. Zero if it is not
    /// behind.
    pub(crate) unmoved: Duration,
}

/// The ends of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    /// The low watermark.
    pub(crate) low: i64,
    /// The high watermark.
    pub(crate) high: i64,
}

/// Position of a group in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// The next offset that it consumes.
    pub(crate) next: i64,
    /// Number of messages that it missed.
    pub(crate) lost: u64,
}

impl Ends {
    /// Returns the position of a group that has committed this offset.
    ///
    /// A new group starts at the earliest message. So does a group whose offset is out of range:
    /// because messages were deleted before it consumed them, or because the topic was recreated
    /// and is shorter now.
    pub(crate) fn position(self, committed: Option<i64>) -> Position {
        match committed {
            Some(committed) if (self.low..=self.high).contains(&committed) => {
                Position { next: committed, lost: 0 }
            }
            Some(committed) if committed < self.low => {
                Position { next: self.low, lost: self.low.abs_diff(committed) }
            }
            _ => Position { next: self.low, lost: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_goes_on_where_it_committed_and_else_at_the_earliest() {
        let ends = Ends { low: 10, high: 20 };
        let position = |committed| {
            let Position { next, lost } = ends.position(committed);
            (next, lost)
        };
        assert_eq!(position(Some(15)), (15, 0));
        assert_eq!(position(Some(20)), (20, 0));
        assert_eq!(position(None), (10, 0), "no committed offset");
        assert_eq!(position(Some(3)), (10, 7), "seven were deleted before they were consumed");
        assert_eq!(position(Some(21)), (10, 0), "the topic was recreated");
    }
}
