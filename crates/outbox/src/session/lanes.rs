use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::admission::Offered;
use super::retrying::{end_retries, partition_takes_key, retry_is_ready};
use super::{PACE, Scope, Session, SessionError, unless_locked, within};
use crate::aside::Aside;
use crate::in_flight::InFlight;
use crate::row::Row;
use crate::scan::{self, LaneRows, LaneStart};
use crate::topic::{Partition, Topic, TopicId};

/// Maximum lanes of a statement, unless one scope has more.
const LANES: usize = 256;
/// The wait after a read without a sendable row.
const IN_VAIN: Duration = Duration::from_millis(20);

/// A lane to read.
struct PlannedLane {
    scope: Scope,
    topic: Arc<str>,
    shard: i16,
    after: i64,
}

impl Session<'_> {
    /// Reads rows left aside of topics, partitions and keys that can be sent now.
    pub(super) async fn read_lanes(&mut self, now: Instant) -> Result<(), SessionError> {
        self.finish_resizes(now);
        self.begin_retries(now);
        let lanes = self.plan(now);
        let Some(lowest) = lanes.iter().map(|lane| lane.after).min() else {
            // If no lane is ready, the next completion may make one ready, and is not delayed. A
            // ready one can't be read for now, for example while its topic is being resized.
            if self.has_lanes(now) {
                self.next_lanes = now + IN_VAIN;
            }
            return Ok(());
        };
        let known = self.known_above(lowest);
        let proven = self.horizon.proven();
        let starts = lanes.iter().map(|lane| {
            let PlannedLane { shard, after, ref topic, .. } = *lane;
            LaneStart { shard, topic, after }
        });
        let starts: Vec<_> = starts.collect();
        let free = self.flights.free();
        let read = scan::lanes(self.shards.session(), &self.published, &starts, &known, free);
        let Some(mut page) = unless_locked(within(read).await)? else {
            self.put_off_deletes();
            return Ok(());
        };
        self.deleted();
        let selected = SystemTime::now();
        let mut has_sent = false;
        let mut blocked = vec![false; lanes.len()];
        for row in &page.rows {
            let lane = LaneRows::lane(row)?;
            let row = Row::of(row)?;
            if blocked[lane] {
                continue;
            }
            match self.offer(&row, None, &lanes[lane].scope, selected) {
                Offered::Sent => has_sent = true,
                Offered::Passed => {}
                Offered::Blocked => {
                    blocked[lane] = true;
                    page.covered[lane] = Some(row.id - 1);
                }
            }
        }
        self.move_on(&lanes, &page.covered, proven);
        self.next_lanes = if has_sent { now + PACE } else { Instant::now() + IN_VAIN };
        Ok(())
    }

    /// Advances lanes. Once a scope was read to its end, its lanes are removed, and the scan of new
    /// rows returns its rows again.
    ///
    /// Lanes of topics and partitions advance up to the horizon only. Above it, an event may become
    /// visible late, together with a later one of its key.
    fn move_on(&mut self, lanes: &[PlannedLane], covered: &[Option<i64>], proven: i64) {
        let mut finished = BTreeMap::<TopicId, usize>::new();
        for (lane, covered) in lanes.iter().zip(covered) {
            match &lane.scope {
                Scope::Topic(id) => {
                    let Some(aside) = &mut self.topics.get_mut(*id).aside else { continue };
                    let is_reopened = aside.is_reopened(lane.shard, lane.after);
                    let is_finished = covered.is_none() && !is_reopened;
                    *finished.entry(*id).or_default() += usize::from(is_finished);
                    // The scan of new rows does not return the topic's rows until all of its lanes
                    // are read to their ends.
                    let covered = proven.min(covered.unwrap_or(i64::MAX));
                    aside.advance(lane.shard, lane.after, Some(covered));
                }
                Scope::Partition(id, number) => {
                    if let Some(partition) = self.topics.get_mut(*id).partition_mut(*number) {
                        let covered = covered.map(|covered| covered.min(proven));
                        move_lane(&mut partition.aside, lane, covered);
                    }
                }
                Scope::Key(id, key) => {
                    if let Some(refused) = self.topics.get_mut(*id).keys.get_mut(key) {
                        move_lane(&mut refused.aside, lane, *covered);
                    }
                }
                Scope::New => {}
            }
        }
        for (id, finished) in finished {
            let topic = self.topics.get_mut(id);
            // Lanes of shards that are about to be given up are neither read nor removed.
            if topic.aside.take_if(|aside| aside.len() == finished).is_some() {
                self.has_new = true;
            }
        }
        for lane in lanes {
            self.end_pause(&lane.scope);
        }
    }

    /// Ends the pause of a scope without waiting rows and records in flight: the refused rows were
    /// deleted.
    fn end_pause(&mut self, scope: &Scope) {
        match scope {
            Scope::Topic(id) => {
                let is_under_way = self.flights.of_topic(*id) > 0;
                let topic = self.topics.get_mut(*id);
                if topic.pause.is_some() && !topic.has_aside() && !is_under_way {
                    topic.pause = None;
                }
            }
            Scope::Partition(id, number) => {
                let is_under_way = self.flights.load(*id, *number).records > 0;
                let partition = self.topics.get_mut(*id).partition_mut(*number);
                if let Some(partition) = partition.filter(|it| it.aside.is_none() && !is_under_way)
                {
                    partition.pause = None;
                }
            }
            Scope::Key(id, key) => {
                let topic = self.topics.get_mut(*id);
                if topic.keys.get(key).is_some_and(|refused| refused.aside.is_none())
                    && !self.flights.has_key(*id, key)
                {
                    topic.keys.remove(key);
                    end_retries(topic, Instant::now());
                }
            }
            Scope::New => {}
        }
    }

    /// Returns whether a lane can be read.
    pub(super) fn has_lanes(&self, now: Instant) -> bool {
        self.topics.iter().any(|(id, topic)| {
            is_open(topic, now)
                && (topic
                    .aside
                    .as_ref()
                    .is_some_and(|aside| topic_is_ready(aside, id, topic, &self.flights, now))
                    || retry_is_ready(id, topic, &self.flights)
                    || partitions_with_aside(topic)
                        .any(|number| partition_is_ready(id, topic, number, &self.flights, now)))
        })
    }

    /// Chooses the lanes to read; if there are many, of some scopes in turn.
    fn plan(&mut self, now: Instant) -> Vec<PlannedLane> {
        let mut ready = Vec::new();
        for (id, topic) in self.topics.iter() {
            if is_open(topic, now) && !topic.is_being_resized() {
                ready.extend(ready_scopes(id, topic, &self.flights, now));
            }
        }
        if ready.is_empty() {
            return Vec::new();
        }
        self.rotation = self.rotation.wrapping_add(1);
        let first = self.rotation % ready.len();
        ready.rotate_left(first);
        let mut lanes = Vec::new();
        for (scope, topic, mut starts) in ready {
            starts.retain(|(shard, _)| self.shards.owned().contains(shard));
            if starts.is_empty() {
                continue;
            }
            // Each lane comes first at times, or a large row could wait for ever for a partition
            // that the others keep filled.
            let first = self.rotation % starts.len().max(1);
            starts.rotate_left(first);
            if !lanes.is_empty() && lanes.len() + starts.len() > LANES {
                break;
            }
            let lane = |(shard, after)| PlannedLane {
                scope: scope.clone(),
                topic: Arc::clone(&topic),
                shard,
                after,
            };
            lanes.extend(starts.into_iter().map(lane));
            if let Some(aside) = self.aside_mut(&scope) {
                aside.drained();
            }
        }
        lanes
    }

    /// Applies new numbers of partitions of topics without records in flight.
    fn finish_resizes(&mut self, now: Instant) {
        for (id, topic) in self.topics.iter_mut() {
            if topic.stands_still(id, &self.flights, now) {
                topic.keep_count();
            }
            topic.finish_resize(now, self.flights.of_topic(id) > 0);
        }
    }

    fn aside_mut(&mut self, scope: &Scope) -> Option<&mut Aside> {
        match scope {
            Scope::New => None,
            Scope::Topic(id) => self.topics.get_mut(*id).aside.as_mut(),
            Scope::Partition(id, number) => {
                self.topics.get_mut(*id).partition_mut(*number)?.aside.as_mut()
            }
            Scope::Key(id, key) => self.topics.get_mut(*id).keys.get_mut(key)?.aside.as_mut(),
        }
    }

    /// Removes lanes of shards that the relay no longer owns.
    pub(super) fn forget_lanes(&mut self) {
        let shards = &self.shards;
        let keep = |aside: &mut Option<Aside>| {
            if let Some(left) = aside {
                let foreign = left.lanes().map(|(shard, _)| shard);
                let foreign: Vec<_> = foreign.filter(|shard| !shards.holds(*shard)).collect();
                for shard in foreign {
                    left.forget(shard);
                }
            }
            aside.take_if(|left| left.is_empty());
        };
        for (id, topic) in self.topics.iter_mut() {
            keep(&mut topic.aside);
            topic.partitions.iter_mut().for_each(|partition| keep(&mut partition.aside));
            topic.keys.values_mut().for_each(|refused| keep(&mut refused.aside));
            let flights = &self.flights;
            topic.keys.retain(|key, refused| refused.aside.is_some() || flights.has_key(id, key));
        }
    }
}

/// A scope, its topic, and the positions of its lanes.
type ReadyScope = (Scope, Arc<str>, Vec<(i16, i64)>);

fn ready_scopes(id: TopicId, topic: &Topic, flights: &InFlight, now: Instant) -> Vec<ReadyScope> {
    let mut ready = Vec::new();
    let mut add = |scope, aside: &Aside| {
        ready.push((scope, Arc::clone(&topic.name), aside.lanes().collect()));
    };
    if let Some(aside) = &topic.aside
        && topic_is_ready(aside, id, topic, flights, now)
    {
        add(Scope::Topic(id), aside);
    }
    for number in partitions_with_aside(topic) {
        if partition_is_ready(id, topic, number, flights, now)
            && let Some(aside) = topic.partition(number).and_then(|it| it.aside.as_ref())
        {
            add(Scope::Partition(id, number), aside);
        }
    }
    for (key, refused) in &topic.keys {
        if let Some(aside) = &refused.aside
            && refused.is_open(now, flights, id, key)
            && (!aside.drains_first() || !flights.has_key(id, key))
            && partition_takes_key(id, topic, key, refused.pause.is_some(), flights, now)
        {
            add(Scope::Key(id, Arc::clone(key)), aside);
        }
    }
    ready
}

/// Returns whether records of a topic may be sent and its partitions are known.
fn is_open(topic: &Topic, now: Instant) -> bool {
    topic.confirmed.is_some() && topic.count().is_some() && topic.is_open(now)
}

/// Returns whether half of each partition's allowance is free. Otherwise most of the rows read
/// could not be sent.
fn topic_is_ready(
    aside: &Aside,
    id: TopicId,
    topic: &Topic,
    flights: &InFlight,
    now: Instant,
) -> bool {
    if aside.drains_first() && flights.of_topic(id) > 0 {
        return false;
    }
    let open = (0..).zip(&topic.partitions).filter(|(number, partition)| {
        let under_way = flights.load(id, *number).records;
        partition.aside.is_none()
            && !partition.is_closed(now, under_way)
            && !partition.retries.is_on()
    });
    let mut open = open.peekable();
    open.peek().is_some()
        && open.all(|(number, partition)| has_room(id, number, flights, partition, now))
}

fn partitions_with_aside(topic: &Topic) -> impl Iterator<Item = i32> {
    let partitions = (0..).zip(&topic.partitions);
    partitions.filter(|(_, partition)| partition.aside.is_some()).map(|(number, _)| number)
}

fn partition_is_ready(
    id: TopicId,
    topic: &Topic,
    number: i32,
    flights: &InFlight,
    now: Instant,
) -> bool {
    let Some(partition) = topic.partition(number) else { return false };
    let under_way = flights.load(id, number).records;
    let drains_first = partition.aside.as_ref().is_some_and(Aside::drains_first);
    if drains_first && under_way > 0 {
        return false;
    }
    !partition.is_closed(now, under_way) && has_room(id, number, flights, partition, now)
}

fn has_room(
    topic: TopicId,
    number: i32,
    flights: &InFlight,
    partition: &Partition,
    now: Instant,
) -> bool {
    if partition.retries.is_on() {
        return false;
    }
    let load = flights.load(topic, number);
    let allowance = flights.allowance(partition.room(now));
    load.records == 0 || load.cost + partition.wanted.max(allowance / 2) <= allowance
}

fn move_lane(aside: &mut Option<Aside>, lane: &PlannedLane, covered: Option<i64>) {
    if let Some(left) = aside {
        left.advance(lane.shard, lane.after, covered);
    }
    aside.take_if(|left| left.is_empty());
}
