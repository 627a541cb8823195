use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Settings;

use crate::aside::Aside;
use crate::in_flight::{InFlight, Room};
use crate::pause::PublishPause;
use crate::retries::Retries;
use crate::window::Window;

/// A partition of which something is under way, and nothing was acknowledged for so long, gets nothing more.
const STALLED: Duration = Duration::from_secs(1);
/// How often the cluster is asked about a topic: partitions may be added.
const ASK: Duration = Duration::from_mins(1);
/// And while one of its partitions acknowledges nothing.
const ASK_WHILE_SILENT: Duration = Duration::from_secs(1);
/// A partition that acknowledged something within this time is live.
const LIVE: Duration = Duration::from_secs(5);
/// How long nothing of a topic is sent after the client's queue was full.
const QUEUE_FULL: Duration = Duration::from_millis(50);
/// So many keys that are refused one after the other are refused for a reason of the topic's.
const REFUSED_KEYS: usize = 100;
/// So many refused keys of a topic are kept apart. Further ones pause their partitions.
const MOST_KEYS: usize = 1_000;

/// A topic, by its place in [`Topics`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TopicId(usize);

impl TopicId {
    #[cfg(test)]
    pub(crate) const FIRST: Self = Self(0);
}

/// The topics that rows were read of.
#[derive(Debug)]
pub(crate) struct Topics {
    kafka: Settings,
    by_name: HashMap<Arc<str>, TopicId>,
    all: Vec<Topic>,
}

impl Topics {
    /// `kafka` says how topics are named on the cluster.
    pub(crate) fn new(kafka: Settings) -> Self {
        Self { kafka, by_name: HashMap::new(), all: Vec::new() }
    }

    pub(crate) fn id(&mut self, name: &str) -> TopicId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = TopicId(self.all.len());
        let on_cluster = self.kafka.prefixed(name).into();
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.all.push(Topic::new(name, on_cluster));
        id
    }

    pub(crate) fn get(&self, id: TopicId) -> &Topic {
        &self.all[id.0]
    }

    pub(crate) fn get_mut(&mut self, id: TopicId) -> &mut Topic {
        &mut self.all[id.0]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicId, &Topic)> {
        self.all.iter().enumerate().map(|(place, topic)| (TopicId(place), topic))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (TopicId, &mut Topic)> {
        self.all.iter_mut().enumerate().map(|(place, topic)| (TopicId(place), topic))
    }
}

/// What is known of a topic, and what of it waits.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Without the prefix.
    pub(crate) name: Arc<str>,
    /// With the prefix.
    pub(crate) on_cluster: Arc<str>,
    /// Its metrics are exported.
    is_exported: bool,
    /// None while their number is not known.
    pub(crate) partitions: Vec<Partition>,
    /// What it takes in a batch, if the cluster tells.
    limit: Option<usize>,
    is_limit_told: bool,
    pub(crate) pause: Option<PublishPause>,
    pub(crate) aside: Option<Aside>,
    /// Keys of which a record was refused.
    pub(crate) keys: HashMap<Arc<str>, RefusedKey>,
    /// Those of which a record was refused since Kafka last acknowledged one of the topic.
    refused_in_a_row: HashSet<Arc<str>>,
    /// Nothing is sent before, since the client's queue was full.
    full_until: Option<Instant>,
    /// When the cluster was last asked what it takes in a batch.
    pub(crate) limit_asked: Option<Instant>,
    /// When the cluster was last asked about it.
    pub(crate) asked: Option<Instant>,
    /// A number of partitions that comes into force once nothing of the topic is under way: it moves keys.
    next_count: Option<usize>,
}

/// A topic-partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) window: Window,
    pub(crate) pause: Option<PublishPause>,
    pub(crate) aside: Option<Aside>,
    /// The cost of a row that had no room: others wait until it has.
    pub(crate) wanted: usize,
    /// Since when it has no leader, as of the last answer of the cluster.
    leaderless_since: Option<Instant>,
    /// When Kafka last acknowledged a record, or the first one that is under way was sent.
    moved: Instant,
    /// When Kafka last acknowledged a record.
    acknowledged: Option<Instant>,
    /// The attempts with records of its refused keys.
    pub(crate) retries: Retries,
}

/// A key of which a record was refused.
#[derive(Debug, Default)]
pub(crate) struct RefusedKey {
    pub(crate) pause: Option<PublishPause>,
    pub(crate) aside: Option<Aside>,
}

impl Topic {
    fn new(name: Arc<str>, on_cluster: Arc<str>) -> Self {
        Self {
            name,
            on_cluster,
            is_exported: false,
            partitions: Vec::new(),
            limit: None,
            is_limit_told: false,
            pause: None,
            aside: None,
            keys: HashMap::new(),
            refused_in_a_row: HashSet::new(),
            full_until: None,
            limit_asked: None,
            asked: None,
            next_count: None,
        }
    }

    /// Notes that its metrics are exported. Returns whether they were not before.
    pub(crate) fn mark_exported(&mut self) -> bool {
        !std::mem::replace(&mut self.is_exported, true)
    }

    /// Returns whether records of it may be sent, as far as the topic as a whole goes.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.pause.as_ref().is_none_or(|pause| pause.is_over(now))
            && self.full_until.is_none_or(|until| now >= until)
    }

    /// Notes that the client's queue has no room for a record.
    pub(crate) fn queue_is_full(&mut self, now: Instant) {
        self.full_until = Some(now + QUEUE_FULL);
    }

    /// Returns whether rows of it were left aside, or something of it is paused.
    pub(crate) fn waits(&self) -> bool {
        self.has_aside()
            || self.pause.is_some()
            || !self.keys.is_empty()
            || self.partitions.iter().any(|partition| partition.pause.is_some())
    }

    /// Returns whether rows of it were left aside.
    pub(crate) fn has_aside(&self) -> bool {
        self.aside.is_some()
            || self.partitions.iter().any(|partition| partition.aside.is_some())
            || self.keys.values().any(|refused| refused.aside.is_some())
    }

    /// Forgets what was left aside and what is paused: no row of it waits.
    pub(crate) fn forget_waiting(&mut self) {
        (self.aside, self.pause) = (None, None);
        for partition in &mut self.partitions {
            (partition.aside, partition.pause) = (None, None);
            partition.retries = Retries::default();
        }
        self.keys.clear();
        self.refused_in_a_row.clear();
    }

    /// Returns whether the cluster is to be asked what it takes in a batch: that changes rarely.
    pub(crate) fn has_limit_question(&self, now: Instant) -> bool {
        self.asked.is_some() && self.limit_asked.is_none_or(|asked| now - asked > ASK)
    }

    /// Returns whether a row of this key was left to the topic, to its partition or to its key.
    pub(crate) fn covers(&self, shard: i16, id: i64, key: &str) -> bool {
        let number = self.count().map(|count| kafka::partition_of(key.as_bytes(), count));
        let partition = number.and_then(|number| self.partition(number)?.aside.as_ref());
        let key = self.keys.get(key).and_then(|refused| refused.aside.as_ref());
        [self.aside.as_ref(), partition, key].iter().flatten().any(|it| it.covers(shard, id))
    }

    /// Returns whether the cluster is to be asked about it.
    pub(crate) fn has_question(&self, id: TopicId, flights: &InFlight, now: Instant) -> bool {
        let Some(asked) = self.asked else {
            return self.has_aside() && self.pause.as_ref().is_none_or(|pause| pause.is_over(now));
        };
        if now - asked <= ASK_WHILE_SILENT {
            return false;
        }
        let is_silent = (0..)
            .zip(&self.partitions)
            .any(|(number, partition)| partition.is_closed(now, flights.load(id, number).records));
        now - asked > if is_silent { ASK_WHILE_SILENT } else { ASK }
    }

    /// Notes that Kafka acknowledged a record. It ends a pause, if it is the attempt that the pause let through.
    pub(crate) fn acknowledged(&mut self, number: i32, key: &str, cost: usize, now: Instant) {
        self.pause.take_if(|pause| pause.is_over(now));
        self.refused_in_a_row.clear();
        if let Some(partition) = self.partition_mut(number) {
            partition.acknowledged(now, cost);
        }
        if !self.keys.is_empty()
            && let Some(refused) = self.keys.get_mut(key)
        {
            refused.pause.take_if(|pause| pause.is_over(now));
            if refused.pause.is_none() && refused.aside.is_none() {
                self.keys.remove(key);
            }
        }
    }

    /// Returns how many partitions it has, if that is known.
    pub(crate) fn count(&self) -> Option<i32> {
        i32::try_from(self.partitions.len()).ok().filter(|count| *count > 0)
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, partition: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Takes over which partitions have no leader.
    pub(crate) fn set_leaders(&mut self, without: &[i32], now: Instant) {
        for (number, partition) in (0..).zip(&mut self.partitions) {
            partition.set_leader(!without.contains(&number), now);
        }
    }

    /// Returns whether something is under way in a partition that acknowledges nothing, and may be so for long.
    pub(crate) fn stands_still(&self, id: TopicId, flights: &InFlight, now: Instant) -> bool {
        (0..).zip(&self.partitions).any(|(number, partition)| {
            let under_way = flights.load(id, number).records;
            under_way > 0 && partition.is_closed(now, under_way)
        })
    }

    /// Goes on with the number of partitions that is used, until the cluster is asked again.
    pub(crate) fn keep_count(&mut self) {
        self.next_count = None;
    }

    /// Takes over how many partitions the topic has, at once if nothing of it is under way.
    pub(crate) fn set_count(&mut self, count: usize, now: Instant, is_under_way: bool) {
        if count == self.partitions.len() {
            self.next_count = None;
        } else if is_under_way {
            self.next_count = Some(count);
        } else {
            self.resize(count, now);
        }
    }

    /// Returns whether it waits for what is under way to come back, to use a new number of partitions.
    pub(crate) fn is_being_resized(&self) -> bool {
        self.next_count.is_some()
    }

    /// Uses a new number of partitions, if it waited for that and nothing is under way any more.
    pub(crate) fn finish_resize(&mut self, now: Instant, is_under_way: bool) {
        if let Some(count) = self.next_count.filter(|_| !is_under_way) {
            self.resize(count, now);
        }
    }

    /// What was left of single partitions goes to the topic's, since keys move between them.
    fn resize(&mut self, count: usize, now: Instant) {
        self.next_count = None;
        let left = self.partitions.drain(..).filter_map(|partition| partition.aside);
        for (shard, after) in left.flat_map(|aside| aside.lanes().collect::<Vec<_>>()) {
            let aside = self.aside.get_or_insert_default();
            aside.leave(shard, after.saturating_add(1));
        }
        let mut window = Window::new();
        if let Some(limit) = self.limit {
            window.set_limit(limit, self.is_limit_told);
        }
        if self.pause.is_some() {
            window.probe();
        }
        let partition = || Partition {
            window,
            pause: None,
            aside: None,
            wanted: 0,
            leaderless_since: None,
            moved: now,
            acknowledged: None,
            retries: Retries::default(),
        };
        self.partitions.resize_with(count, partition);
    }

    /// Takes over how much a batch may have, if the cluster tells.
    pub(crate) fn set_limit(&mut self, told: Option<usize>) {
        let Some(limit) = told.or(self.limit.is_none().then_some(Window::LIMIT)) else { return };
        if self.limit != Some(limit) || self.is_limit_told != told.is_some() {
            (self.limit, self.is_limit_told) = (Some(limit), told.is_some());
            for partition in &mut self.partitions {
                partition.window.set_limit(limit, told.is_some());
            }
        }
    }

    /// Pauses all of it.
    pub(crate) fn pause(&mut self, now: Instant, why: &str) {
        PublishPause::extend(&mut self.pause, now, why);
        for partition in &mut self.partitions {
            partition.window.probe();
        }
    }

    /// Returns whether a refused key can be kept apart from the others of its partition.
    pub(crate) fn keeps_apart(&self, key: &str) -> bool {
        self.keys.len() < MOST_KEYS || self.keys.contains_key(key)
    }

    /// Notes that a record of a key was refused. Returns whether so many keys were, and no record acknowledged in between,
    /// that the topic is to blame.
    pub(crate) fn refuses_all_keys(&mut self, refused: &str) -> bool {
        self.refused_in_a_row.insert(refused.into());
        self.refused_in_a_row.len() > REFUSED_KEYS
    }
}

impl Partition {
    pub(crate) fn pause(&mut self, now: Instant, why: &str) {
        PublishPause::extend(&mut self.pause, now, why);
        self.window.probe();
    }

    fn acknowledged(&mut self, now: Instant, cost: usize) {
        self.moved = now;
        self.acknowledged = Some(now);
        self.leaderless_since = None;
        self.pause.take_if(|pause| pause.is_over(now));
        self.window.acknowledged(cost);
    }

    /// Notes that a record is sent where none is under way.
    pub(crate) fn sent_first(&mut self, now: Instant) {
        self.moved = now;
        self.wanted = 0;
    }

    /// Takes over whether it has a leader.
    pub(crate) fn set_leader(&mut self, has_leader: bool, now: Instant) {
        let since = self.leaderless_since.unwrap_or(now);
        self.leaderless_since = (!has_leader).then_some(since);
    }

    /// Returns for how long it has had no leader, if it has none.
    pub(crate) fn leaderless(&self, now: Instant) -> Option<Duration> {
        self.leaderless_since.map(|since| now.saturating_duration_since(since))
    }

    /// Returns what it may take.
    pub(crate) fn room(&self, now: Instant) -> Room {
        let is_live = |at| now.saturating_duration_since(at) < LIVE;
        Room { window: self.window.bytes(), is_live: self.acknowledged.is_some_and(is_live) }
    }

    /// Returns for how long Kafka has acknowledged nothing, if something is under way.
    pub(crate) fn silence(&self, now: Instant, under_way: usize) -> Option<Duration> {
        (under_way > 0).then(|| now.saturating_duration_since(self.moved))
    }

    /// Returns whether nothing more may be sent for now.
    pub(crate) fn is_closed(&self, now: Instant, under_way: usize) -> bool {
        self.leaderless_since.is_some()
            || self.pause.as_ref().is_some_and(|pause| !pause.is_over(now))
            || self.silence(now, under_way).is_some_and(|silence| silence > STALLED)
    }
}

impl RefusedKey {
    /// Returns whether a record may be sent. While it is not known whether Kafka takes any, one at a time.
    pub(crate) fn is_open(
        &self,
        now: Instant,
        flights: &InFlight,
        topic: TopicId,
        key: &str,
    ) -> bool {
        self.pause.as_ref().is_none_or(|pause| pause.is_over(now) && !flights.has_key(topic, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refused_keys_are_the_topic_s_fault_only_if_it_acknowledges_nothing_in_between() {
        let mut topic = Topic::new("t".into(), "t".into());
        topic.set_count(1, Instant::now(), false);
        for number in 0..200 {
            assert!(!topic.refuses_all_keys(&format!("K-{number}")));
            topic.acknowledged(0, "L", 1, Instant::now());
        }
        assert!((0..200).all(|_| !topic.refuses_all_keys("K-1")), "one key is one, however often");
        let mut refused = (2..=REFUSED_KEYS + 1).map(|it| topic.refuses_all_keys(&it.to_string()));
        assert!(refused.any(|it| it));
    }
}
