use std::time::{Duration, SystemTime};

use super::STALLED_AFTER;
use super::partition_lag::PartitionLag;

/// Lag of all groups at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) at: SystemTime,
    /// Groups of the services first, then by name.
    pub(crate) groups: Vec<GroupLag>,
}

/// Lag of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupLag {
    /// Its name without the prefix.
    pub(crate) group: String,
    /// Its name on the cluster.
    pub(crate) name: String,
    /// The service that it belongs to. `None` for groups of other systems.
    pub(crate) service: Option<String>,
    /// Number of consumers that have joined it.
    pub(crate) members: usize,
    /// Its partitions, by topic and number.
    pub(crate) partitions: Vec<PartitionLag>,
    /// Topics that it consumes but that the cluster does not have. Names are without the prefix.
    pub(crate) missing_topics: Vec<String>,
    /// Why it could not be measured, or not completely.
    pub(crate) unknown: Option<String>,
    /// Messages a second. `None` after one measurement.
    pub(crate) rates: Option<Rates>,
    /// How long a group with members may make no progress before it is stalled.
    pub(crate) patience: Duration,
}

/// Messages a second, between two measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rates {
    pub(crate) consumed: f64,
    pub(crate) arrived: f64,
}

/// When a group will have caught up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum CatchUp {
    /// It has caught up.
    Now,
    In(Duration),
    /// It is behind and does not consume faster than messages arrive.
    Never,
}

impl GroupLag {
    /// Returns the number of messages it is behind. Returns `None` if that could not be measured.
    pub(crate) fn messages(&self) -> Option<u64> {
        self.is_known().then(|| self.partitions.iter().map(|it| it.messages).sum())
    }

    /// Returns the age of the oldest message that it has not consumed. Returns `None` if that could
    /// not be measured.
    pub(crate) fn age(&self) -> Option<Duration> {
        let ages = self.partitions.iter().map(|it| it.age);
        let oldest = ages.collect::<Option<Vec<_>>>()?.into_iter().max();
        self.is_known().then(|| oldest.unwrap_or_default())
    }

    /// Returns the number of messages that were deleted before it consumed them.
    pub(crate) fn lost(&self) -> u64 {
        self.partitions.iter().map(|it| it.lost).sum()
    }

    /// Returns the largest share of a topic's retention.
    pub(crate) fn share_of_retention(&self) -> Option<f64> {
        self.partitions.iter().filter_map(|it| it.share_of_retention).reduce(f64::max)
    }

    /// Returns `true` if it was measured completely and all its topics exist.
    pub(crate) fn is_known(&self) -> bool {
        self.unknown.is_none() && self.missing_topics.is_empty()
    }

    /// Returns `true` if messages have waited in a partition for longer than all retries take,
    /// without progress there.
    pub(crate) fn is_stalled(&self) -> bool {
        // A group without members makes no progress.
        let patience = if self.members == 0 { Duration::ZERO } else { self.patience };
        self.is_unmoved_for(patience)
    }

    /// Returns `true` if it is not known to be stalled, but will be unless it makes progress soon.
    pub(crate) fn may_be_stalled(&self) -> bool {
        !self.is_stalled() && self.is_unmoved_for(Duration::from_millis(1))
    }

    fn is_unmoved_for(&self, patience: Duration) -> bool {
        self.partitions.iter().any(|it| {
            let is_old = it.age.is_none_or(|age| age >= STALLED_AFTER);
            it.messages > 0 && is_old && it.unmoved >= patience
        })
    }

    /// Returns when it will have caught up. Returns `None` without rates.
    pub(crate) fn catch_up(&self) -> Option<CatchUp> {
        let messages = self.messages()?;
        if messages == 0 {
            return Some(CatchUp::Now);
        }
        let Rates { consumed, arrived } = self.rates?;
        #[allow(clippy::cast_precision_loss)] // The result is an estimate.
        let seconds = messages as f64 / (consumed - arrived);
        let is_catching_up = consumed > arrived;
        let after = is_catching_up.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
        Some(after.map_or(CatchUp::Never, CatchUp::In))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::partition_lag::{Ends, TopicPartition};
    use super::*;

    /// Returns a group that is this number of messages behind in one partition, the oldest of this
    /// age.
    pub(crate) fn behind(messages: u64, age: u64) -> GroupLag {
        let committed = 100;
        let high = committed + i64::try_from(messages).unwrap();
        let partition = PartitionLag {
            at: TopicPartition { topic: "order.completed".into(), partition: 0 },
            committed: Some(committed),
            ends: Ends { low: 0, high },
            messages,
            age: Some(Duration::from_secs(age)),
            lost: 0,
            share_of_retention: None,
            unmoved: Duration::ZERO,
        };
        GroupLag {
            group: "billing".into(),
            name: "billing".into(),
            service: Some("billing".into()),
            members: 1,
            partitions: vec![partition],
            missing_topics: Vec::new(),
            unknown: None,
            rates: None,
            patience: STALLED_AFTER,
        }
    }

    #[test]
    fn a_group_is_stalled_if_it_makes_no_progress_for_longer_than_a_retry_takes() {
        let mut group = behind(5, 300);
        assert!(!group.is_stalled(), "it was observed only once");
        group.partitions[0].unmoved = STALLED_AFTER;
        assert!(group.is_stalled());
        group.partitions[0].messages = 0;
        assert!(!group.is_stalled(), "nothing waits");
        let mut dead = behind(5, 300);
        dead.members = 0;
        assert!(dead.is_stalled(), "nobody consumes");
        dead.partitions[0].age = Some(Duration::from_secs(5));
        assert!(!dead.is_stalled(), "it may be restarting");
    }

    #[test]
    fn what_can_not_be_measured_is_no_number() {
        let mut group = behind(5, 3);
        assert_eq!((group.messages(), group.age()), (Some(5), Some(Duration::from_secs(3))));
        group.partitions[0].age = None;
        assert_eq!((group.messages(), group.age()), (Some(5), None));
        group.missing_topics = vec!["order.completed".into()];
        assert_eq!(group.messages(), None);
    }

    #[test]
    fn the_time_to_catch_up_is_an_estimate_from_both_rates() {
        let mut group = behind(100, 3);
        assert_eq!(group.catch_up(), None, "measured once");
        group.rates = Some(Rates { consumed: 30.0, arrived: 10.0 });
        assert_eq!(group.catch_up(), Some(CatchUp::In(Duration::from_secs(5))));
        group.rates = Some(Rates { consumed: 10.0, arrived: 10.0 });
        assert_eq!(group.catch_up(), Some(CatchUp::Never));
        assert_eq!(behind(0, 0).catch_up(), Some(CatchUp::Now));
    }
}
