use std::time::Duration;

/// A partition of a topic on the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TopicPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// How far a group is behind in one partition.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct PartitionLag {
    pub(crate) at: TopicPartition,
    /// `None` if the group has never committed there.
    pub(crate) committed: Option<i64>,
    /// The first offset that is kept, and the one after the last.
    pub(crate) ends: Ends,
    /// Messages that were not consumed.
    pub(crate) messages: u64,
    /// Age of the first of them. Zero if there is none, `None` if it could not be read.
    pub(crate) age: Option<Duration>,
    /// Messages that were deleted before they were consumed.
    pub(crate) lost: u64,
    /// Age of the first message as a share of the topic's retention; `None` if either is unknown.
    pub(crate) share_of_retention: Option<f64>,
    /// How long the group has been seen here without progress; zero if it is not behind.
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

/// Where a group goes on in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// The next offset that it consumes.
    pub(crate) next: i64,
    /// Messages that it missed.
    pub(crate) lost: u64,
}

impl Ends {
    /// Returns where a group goes on that has committed this offset.
    ///
    /// A new group starts at the earliest message, and so does one whose offset is out of range: because messages were
    /// deleted before it came, or because the topic was created anew and is shorter now.
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
        assert_eq!(position(None), (10, 0), "it never committed");
        assert_eq!(position(Some(3)), (10, 7), "seven were deleted before they were consumed");
        assert_eq!(position(Some(21)), (10, 0), "the topic was created anew");
    }
}
