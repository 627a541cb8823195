//! Combines several measurements: rates, and groups without progress.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::group_lag::{GroupLag, Rates};
use super::partition_lag::TopicPartition;

/// Time span of the rates. Services commit once a second, and in bursts.
const WINDOW: Duration = Duration::from_secs(30);

/// A group on the cluster, and a partition.
type GroupPartition = (String, TopicPartition);

/// The previous measurements.
#[derive(Default)]
pub(super) struct Progress {
    samples: VecDeque<Sample>,
    /// Where and when each group that is behind was first observed at its current position.
    standing: HashMap<GroupPartition, (i64, Instant)>,
}

struct Sample {
    at: Instant,
    points: HashMap<GroupPartition, Point>,
}

/// Offsets: position of a group, and end of the partition.
#[derive(Clone, Copy)]
struct Point {
    next: i64,
    end: i64,
}

impl Progress {
    /// Adds rates and the time without progress to a measurement, using the earlier ones.
    pub(super) fn complete(&mut self, groups: &mut [GroupLag], now: Instant) {
        let points = points(groups);
        self.forget(now);
        for group in groups.iter_mut() {
            group.rates = self.samples.front().and_then(|first| rates(first, group, &points, now));
        }
        let mut standing = HashMap::new();
        for group in groups {
            for partition in group.partitions.iter_mut().filter(|it| it.messages > 0) {
                let place = (group.name.clone(), partition.at.clone());
                let next = points[&place].next;
                let before = self.standing.get(&place).filter(|(at, _)| *at == next);
                let since = before.map_or(now, |(_, since)| *since);
                partition.unmoved = now.saturating_duration_since(since);
                standing.insert(place, (next, since));
            }
        }
        self.standing = standing;
        self.samples.push_back(Sample { at: now, points });
    }

    /// Removes old samples. The newest of the old ones is kept, so that there are two.
    fn forget(&mut self, now: Instant) {
        while self.samples.get(1).is_some_and(|it| now.duration_since(it.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }
}

fn points(groups: &[GroupLag]) -> HashMap<GroupPartition, Point> {
    let all = groups.iter().flat_map(|group| group.partitions.iter().map(move |it| (group, it)));
    let points = all.map(|(group, it)| {
        let point = Point { next: it.ends.position(it.committed).next, end: it.ends.high };
        ((group.name.clone(), it.at.clone()), point)
    });
    points.collect()
}

/// Returns the rates since a sample, of the partitions in both. Returns `None` without a sample.
#[allow(clippy::cast_precision_loss)] // Rates need no precision.
fn rates(
    first: &Sample,
    group: &GroupLag,
    points: &HashMap<GroupPartition, Point>,
    now: Instant,
) -> Option<Rates> {
    let took = now.saturating_duration_since(first.at).as_secs_f64();
    let places = group.partitions.iter().map(|it| (group.name.clone(), it.at.clone()));
    let both = places.filter_map(|place| Some((first.points.get(&place)?, points.get(&place)?)));
    let moves = both.map(|(before, after)| (after.next - before.next, after.end - before.end));
    let sum = |all: (i64, i64), it: (i64, i64)| (all.0 + it.0, all.1 + it.1);
    let (consumed, arrived) = moves.reduce(sum).filter(|_| took > 0.0)?;
    // The offset decreases if a group is reset or a topic is recreated.
    let rate = |messages: i64| messages.max(0) as f64 / took;
    Some(Rates { consumed: rate(consumed), arrived: rate(arrived) })
}

#[cfg(test)]
mod tests {
    use super::super::group_lag::tests::behind;
    use super::*;

    fn at(committed: i64, high: i64) -> GroupLag {
        let mut group = behind(u64::try_from(high - committed).unwrap(), 5);
        group.partitions[0].committed = Some(committed);
        group.partitions[0].ends.high = high;
        group
    }

    #[test]
    fn rates_need_two_measurements() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let mut measure = |group: GroupLag, after: u64| {
            let mut groups = [group];
            progress.complete(&mut groups, start + Duration::from_secs(after));
            groups[0].rates
        };
        assert_eq!(measure(at(100, 200), 0), None);
        assert_eq!(measure(at(120, 210), 2), Some(Rates { consumed: 10.0, arrived: 5.0 }));
        let reset = measure(at(0, 210), 4).unwrap();
        assert!(reset.consumed.abs() < f64::EPSILON, "no negative rate: {reset:?}");
    }

    #[test]
    fn rates_are_those_of_the_last_half_minute() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let mut measure = |committed: i64, after: u64| {
            let mut groups = [at(committed, 1_000_000)];
            progress.complete(&mut groups, start + Duration::from_secs(after));
            groups[0].rates
        };
        for tick in 0..=12 {
            measure(tick * 100, u64::try_from(tick).unwrap() * 5);
        }
        // Nothing is consumed from now on.
        for tick in 13..=18 {
            measure(1200, tick * 5);
        }
        assert_eq!(measure(1200, 95).map(|it| it.consumed), Some(0.0));
    }

    #[test]
    fn a_group_stands_still_from_when_it_was_first_seen_at_its_place() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let mut measure = |group: GroupLag, after: u64| {
            let mut groups = [group];
            progress.complete(&mut groups, start + Duration::from_secs(after));
            groups[0].partitions[0].unmoved.as_secs()
        };
        assert_eq!(measure(at(100, 100), 0), 0);
        assert_eq!(measure(at(100, 110), 5), 0, "it was not behind before");
        assert_eq!(measure(at(100, 120), 15), 10);
        assert_eq!(measure(at(101, 120), 20), 0);
    }
}
