//! Topics and committed offsets of a group, and its lag.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka::Settings;
use kafka::rdkafka::error::KafkaError;

use super::cluster::{Listed, Topics};
use super::committed::Committed;
use super::first_records::{First, PartitionOffset};
use super::group_lag::GroupLag;
use super::partition_lag::{Ends, PartitionLag, TopicPartition};
use super::subscribed::Wanted;

/// The order in which groups are read, because the time may not suffice for all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Rank {
    /// The group of a service.
    Service,
    /// Another group whose name has the prefix.
    Prefix,
    /// A group of another system.
    Other,
}

/// A group, before its partitions are evaluated.
pub(super) struct Consumed {
    /// Its name on the cluster.
    pub(super) name: String,
    group: String,
    service: Option<String>,
    members: usize,
    committed: Result<Committed, String>,
    /// Topics, with their names on the cluster.
    pub(super) topics: BTreeSet<String>,
    /// Contains the prefix of the topics' names.
    settings: Settings,
}

impl Consumed {
    /// Collects a group's topics: those of its members, and those of its subscription, or if that
    /// is unknown the topics that it had `before`. Committed offsets name the topics of other
    /// systems' groups, and of a service's only if nothing else does: Kafka keeps them for a week
    /// after the group has stopped reading a topic (`offsets.retention.minutes`).
    pub(super) fn new(
        settings: &Settings,
        wanted: &Wanted,
        (name, listed): (String, Listed),
        committed: Option<Result<Committed, KafkaError>>,
        before: BTreeSet<String>,
    ) -> Self {
        let committed = committed.unwrap_or(Err(KafkaError::Canceled));
        let committed = committed.map_err(|error| format!("its offsets are unknown: {error}"));
        let subscribed = wanted.subscribed.iter().find(|it| settings.prefixed(&it.group) == name);
        let mut topics = match subscribed {
            Some(subscribed) => subscribed.topics.iter().map(|it| settings.prefixed(it)).collect(),
            None => before,
        };
        let service = wanted.service_of(settings, &name, listed.members);
        if topics.is_empty() || service.is_none() {
            topics.extend(committed.iter().flatten().map(|(at, _)| at.topic.clone()));
        }
        topics.extend(listed.topics);
        Self {
            group: settings.unprefixed(&name).to_owned(),
            service,
            members: listed.members,
            committed,
            topics,
            name,
            settings: settings.clone(),
        }
    }

    /// Returns its place in the order in which groups are read.
    pub(super) fn rank(&self) -> Rank {
        match &self.service {
            Some(_) => Rank::Service,
            None if self.name.starts_with(&self.settings.prefixed("")) => Rank::Prefix,
            None => Rank::Other,
        }
    }

    /// Returns the partitions of its topics.
    pub(super) fn partitions<'a>(
        &'a self,
        topics: &'a Topics,
    ) -> impl Iterator<Item = TopicPartition> + 'a {
        let found = self.topics.iter().filter_map(|it| topics.partitions.get_key_value(it));
        found.flat_map(|(topic, partitions)| {
            partitions.iter().map(|it| TopicPartition { topic: topic.clone(), partition: *it })
        })
    }

    /// Returns its positions in the partitions in which it is behind.
    pub(super) fn places<'a>(
        &'a self,
        ends: &'a HashMap<TopicPartition, Ends>,
    ) -> impl Iterator<Item = PartitionOffset> + 'a {
        let committed = self.committed.as_ref().ok();
        let all = committed.into_iter().flat_map(move |committed| {
            let ours = ends.iter().filter(|(at, _)| self.topics.contains(&at.topic));
            ours.map(move |(at, ends)| (at, ends, ends.position(committed.get(at).copied())))
        });
        all.filter(|(_, ends, it)| it.next < ends.high).map(|(at, _, it)| (at.clone(), it.next))
    }

    /// Returns its lag.
    pub(super) fn lag(
        &self,
        topics: &Topics,
        ends: &HashMap<TopicPartition, Ends>,
        firsts: &HashMap<PartitionOffset, First>,
        retention: &BTreeMap<String, Option<Duration>>,
        now: SystemTime,
        patience: Duration,
    ) -> GroupLag {
        let mut unknown = self.committed.as_ref().err().cloned();
        let mut partitions = Vec::new();
        for at in self.partitions(topics) {
            let Ok(committed) = &self.committed else { break };
            let Some(ends) = ends.get(&at) else {
                let TopicPartition { topic, partition } = &at;
                unknown = Some(format!("{topic}/{partition} has no leader or does not answer"));
                continue;
            };
            let kept = retention.get(&at.topic).copied().flatten();
            partitions.push(partition_lag(at, committed, *ends, firsts, kept, now));
        }
        if self.topics.is_empty() && self.service.is_some() && unknown.is_none() {
            unknown = Some("it has committed nothing, and no service lists its topics".to_owned());
        }
        let missing = self.topics.iter().filter(|it| !topics.partitions.contains_key(*it));
        let missing_topics =
            missing.map(|topic| self.settings.unprefixed(topic).to_owned()).collect();
        GroupLag {
            group: self.group.clone(),
            name: self.name.clone(),
            service: self.service.clone(),
            members: self.members,
            partitions,
            missing_topics,
            unknown,
            rates: None,
            patience,
        }
    }
}

fn partition_lag(
    at: TopicPartition,
    committed: &Committed,
    ends: Ends,
    firsts: &HashMap<PartitionOffset, First>,
    kept: Option<Duration>,
    now: SystemTime,
) -> PartitionLag {
    let committed = committed.get(&at).copied();
    let position = ends.position(committed);
    let first = firsts.get(&(at.clone(), position.next));
    // Offsets without a record need not be consumed.
    let (next, age) = match first {
        _ if position.next >= ends.high => (ends.high, Some(Duration::ZERO)),
        Some(First::Nothing) => (ends.high, Some(Duration::ZERO)),
        Some(First::Record { offset, millis }) => (*offset, millis.and_then(|it| age(it, now))),
        None => (position.next, None),
    };
    let share = kept.zip(age).map(|(kept, age)| age.as_secs_f64() / kept.as_secs_f64());
    PartitionLag {
        at,
        committed,
        ends,
        messages: u64::try_from(ends.high - next).unwrap_or(0),
        age,
        lost: position.lost,
        share_of_retention: share.filter(|share| share.is_finite()),
        unmoved: Duration::ZERO,
    }
}

/// Returns the age of a record. A record from the future, by a clock that is ahead, has the age
/// zero.
fn age(millis: i64, now: SystemTime) -> Option<Duration> {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))?;
    Some(now.duration_since(at).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::subscribed::Subscribed;
    use super::*;

    fn at() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn measured(first: Option<First>) -> PartitionLag {
        let firsts = first.map(|first| ((at(), 10), first)).into_iter().collect();
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let committed = [(at(), 10)].into();
        let kept = Some(Duration::from_secs(200));
        partition_lag(at(), &committed, Ends { low: 0, high: 15 }, &firsts, kept, now)
    }

    #[test]
    fn the_topics_of_a_service_are_those_that_it_lists() {
        let settings = Settings::new("b:1", "");
        let listed = Wanted {
            subscribed: vec![Subscribed {
                service: "billing".into(),
                group: "billing".into(),
                topics: vec!["read".into()],
            }],
            services: ["billing".into()].into(),
            ..Wanted::default()
        };
        let unknown = Wanted { subscribed: Vec::new(), ..listed.clone() };
        let topics = |wanted: &Wanted, group: &str, before: &[&str]| {
            let was_read = TopicPartition { topic: "was read".into(), partition: 0 };
            let committed = Some(Ok([(at(), 10), (was_read, 10)].into()));
            let before = before.iter().map(|topic| (*topic).to_owned()).collect();
            let group = (group.to_owned(), Listed::default());
            Consumed::new(&settings, wanted, group, committed, before).topics
        };
        let set = |topics: &[&str]| topics.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(topics(&listed, "billing", &["read", "was read"]), set(&["read"]));
        assert_eq!(topics(&unknown, "billing", &["read"]), set(&["read"]), "it is down");
        assert_eq!(topics(&unknown, "billing", &[]), set(&["t", "was read"]), "it was always down");
        assert_eq!(topics(&listed, "reports", &["read"]), set(&["read", "t", "was read"]));
    }

    #[test]
    fn the_age_is_that_of_the_first_record() {
        let lag = measured(Some(First::Record { offset: 10, millis: Some(40_000) }));
        assert_eq!((lag.messages, lag.age), (5, Some(Duration::from_mins(1))));
        assert_eq!(lag.share_of_retention, Some(0.3));
        let ahead = measured(Some(First::Record { offset: 10, millis: Some(500_000) }));
        assert_eq!(ahead.age, Some(Duration::ZERO), "a clock that is ahead");
    }

    #[test]
    fn offsets_without_a_record_are_no_lag() {
        let behind = measured(Some(First::Record { offset: 13, millis: Some(40_000) }));
        assert_eq!(behind.messages, 2);
        let marker = measured(Some(First::Nothing));
        assert_eq!((marker.messages, marker.age), (0, Some(Duration::ZERO)));
        let unread = measured(None);
        assert_eq!((unread.messages, unread.age), (5, None), "an unknown age is not estimated");
    }
}
