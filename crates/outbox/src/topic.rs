use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Settings;

use crate::aside::Aside;
use crate::in_flight::{InFlight, Room};
use crate::pause::PublishPause;
use crate::retries::Retries;
use crate::window::Window;

/// A partition with records in flight that acknowledges nothing for this long gets no more records.
const STALLED: Duration = Duration::from_secs(1);
/// Interval of metadata requests about a topic, since partitions may be added.
const ASK: Duration = Duration::from_mins(1);
/// The same while one of its partitions acknowledges nothing.
const ASK_WHILE_SILENT: Duration = Duration::from_secs(1);
/// A partition that has acknowledged a record within this time is live.
const LIVE: Duration = Duration::from_secs(5);
/// How long a topic waits after the client's queue was full.
const QUEUE_FULL: Duration = Duration::from_millis(50);
/// Number of consecutively refused keys after which the topic is considered the cause.
const REFUSED_KEYS: usize = 100;
/// Maximum number of refused keys of a topic with their own pause. Further ones pause their
/// partitions.
const MOST_KEYS: usize = 1_000;

/// A topic, by its index in [`Topics`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TopicId(usize);

impl TopicId {
    pub(crate) fn index(self) -> usize {
        self.0
    }

    #[cfg(test)]
    pub(crate) const FIRST: Self = Self(0);
}

/// The topics of rows read so far.
#[derive(Debug)]
pub(crate) struct Topics {
    kafka: Settings,
    by_name: HashMap<Arc<str>, TopicId>,
    all: Vec<Topic>,
}

impl Topics {
    /// Creates an empty list. `kafka` determines the names of topics on the cluster.
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
        self.all.iter().enumerate().map(|(index, topic)| (TopicId(index), topic))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (TopicId, &mut Topic)> {
        self.all.iter_mut().enumerate().map(|(index, topic)| (TopicId(index), topic))
    }
}

/// State of a topic, with its rows left aside.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Without the prefix.
    pub(crate) name: Arc<str>,
    /// With the prefix.
    pub(crate) on_cluster: Arc<str>,
    /// `true` if the topic's metrics are exported.
    is_exported: bool,
    /// Empty while their number is unknown.
    pub(crate) partitions: Vec<Partition>,
    /// Maximum bytes of a batch, if the cluster reveals it.
    limit: Option<usize>,
    is_limit_reported: bool,
    pub(crate) pause: Option<PublishPause>,
    pub(crate) aside: Option<Aside>,
    /// Keys with a refused record.
    pub(crate) keys: HashMap<Arc<str>, RefusedKey>,
    /// Keys with a refused record since Kafka last acknowledged a record of the topic.
    refused_in_a_row: HashSet<Arc<str>>,
    /// Time before which nothing is sent, since the client's queue was full.
    full_until: Option<Instant>,
    /// When the batch limit was last requested.
    pub(crate) limit_asked: Option<Instant>,
    /// When the cluster last answered that it exists. `None` after a refusal.
    pub(crate) confirmed: Option<Instant>,
    /// A new number of partitions, which applies once no record of the topic is in flight, because
    /// it moves keys.
    next_count: Option<usize>,
}

/// A topic-partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) window: Window,
    pub(crate) pause: Option<PublishPause>,
    pub(crate) aside: Option<Aside>,
    /// The cost of a row without room; other rows wait until it has room.
    pub(crate) wanted: usize,
    /// Since when it has no leader, as of the cluster's last answer.
    leaderless_since: Option<Instant>,
    /// When Kafka last acknowledged a record, or the first record in flight was sent.
    moved: Instant,
    /// When Kafka last acknowledged a record.
    acknowledged: Option<Instant>,
    /// Retries of its refused keys.
    pub(crate) retries: Retries,
}

/// A key with a refused record.
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
            is_limit_reported: false,
            pause: None,
            aside: None,
            keys: HashMap::new(),
            refused_in_a_row: HashSet::new(),
            full_until: None,
            limit_asked: None,
            confirmed: None,
            next_count: None,
        }
    }

    /// Marks its metrics as exported. Returns whether they were not before.
    pub(crate) fn mark_exported(&mut self) -> bool {
        !std::mem::replace(&mut self.is_exported, true)
    }

    /// Returns whether the topic as a whole accepts records.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.pause.as_ref().is_none_or(|pause| pause.is_over(now))
            && self.full_until.is_none_or(|until| now >= until)
    }

    /// Records that the client's queue is full.
    pub(crate) fn queue_is_full(&mut self, now: Instant) {
        self.full_until = Some(now + QUEUE_FULL);
    }

    /// Returns whether rows of it are left aside, or a scope of it is paused.
    pub(crate) fn waits(&self) -> bool {
        self.has_aside()
            || self.pause.is_some()
            || !self.keys.is_empty()
            || self.partitions.iter().any(|partition| partition.pause.is_some())
    }

    /// Returns whether rows of it are left aside.
    pub(crate) fn has_aside(&self) -> bool {
        self.aside.is_some()
            || self.partitions.iter().any(|partition| partition.aside.is_some())
            || self.keys.values().any(|refused| refused.aside.is_some())
    }

    /// Clears rows left aside and pauses, since no row of it waits.
    pub(crate) fn forget_waiting(&mut self) {
        (self.aside, self.pause) = (None, None);
        for partition in &mut self.partitions {
            (partition.aside, partition.pause) = (None, None);
            partition.retries = Retries::default();
        }
        self.keys.clear();
        self.refused_in_a_row.clear();
    }

    /// Returns whether its batch limit has to be requested, which changes rarely.
    pub(crate) fn has_limit_question(&self, now: Instant) -> bool {
        self.confirmed.is_some() && self.limit_asked.is_none_or(|asked| now - asked > ASK)
    }

    /// Returns whether a row is left aside for the topic, its partition or its key.
    pub(crate) fn covers(&self, shard: i16, id: i64, key: &str) -> bool {
        let number = self.count().map(|count| kafka::partition_of(key.as_bytes(), count));
        let partition = number.and_then(|number| self.partition(number)?.aside.as_ref());
        let key = self.keys.get(key).and_then(|refused| refused.aside.as_ref());
        [self.aside.as_ref(), partition, key].iter().flatten().any(|it| it.covers(shard, id))
    }

    /// Returns whether its metadata has to be requested.
    pub(crate) fn has_question(&self, id: TopicId, flights: &InFlight, now: Instant) -> bool {
        let Some(confirmed) = self.confirmed else {
            return self.has_aside() && self.pause.as_ref().is_none_or(|pause| pause.is_over(now));
        };
        if now - confirmed <= ASK_WHILE_SILENT {
            return false;
        }
        let is_silent = (0..)
            .zip(&self.partitions)
            .any(|(number, partition)| partition.is_closed(now, flights.load(id, number).records));
        now - confirmed > if is_silent { ASK_WHILE_SILENT } else { ASK }
    }

    /// Records an acknowledgement. It ends a pause if the record was the pause's attempt.
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

    /// Returns the number of its partitions, if known.
    pub(crate) fn count(&self) -> Option<i32> {
        i32::try_from(self.partitions.len()).ok().filter(|count| *count > 0)
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, partition: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Records the partitions without a leader.
    pub(crate) fn set_leaders(&mut self, without: &[i32], now: Instant) {
        for (number, partition) in (0..).zip(&mut self.partitions) {
            partition.set_leader(!without.contains(&number), now);
        }
    }

    /// Returns whether a record is in flight to a partition that acknowledges nothing, perhaps for
    /// long.
    pub(crate) fn stands_still(&self, id: TopicId, flights: &InFlight, now: Instant) -> bool {
        (0..).zip(&self.partitions).any(|(number, partition)| {
            let under_way = flights.load(id, number).records;
            under_way > 0 && partition.is_closed(now, under_way)
        })
    }

    /// Keeps the current number of partitions until the next metadata request.
    pub(crate) fn keep_count(&mut self) {
        self.next_count = None;
    }

    /// Records the topic's number of partitions, and applies it at once if no record of the topic
    /// is in flight.
    pub(crate) fn set_count(&mut self, count: usize, now: Instant, is_under_way: bool) {
        if count == self.partitions.len() {
            self.next_count = None;
        } else if is_under_way {
            self.next_count = Some(count);
        } else {
            self.resize(count, now);
        }
    }

    /// Returns whether a new number of partitions waits for records in flight.
    pub(crate) fn is_being_resized(&self) -> bool {
        self.next_count.is_some()
    }

    /// Applies a waiting number of partitions if no record is in flight.
    pub(crate) fn finish_resize(&mut self, now: Instant, is_under_way: bool) {
        if let Some(count) = self.next_count.filter(|_| !is_under_way) {
            self.resize(count, now);
        }
    }

    /// Changes the number of partitions. Rows left aside for partitions move to the topic, since
    /// keys change partitions.
    fn resize(&mut self, count: usize, now: Instant) {
        self.next_count = None;
        let left = self.partitions.drain(..).filter_map(|partition| partition.aside);
        for (shard, after) in left.flat_map(|aside| aside.lanes().collect::<Vec<_>>()) {
            let aside = self.aside.get_or_insert_default();
            aside.leave(shard, after.saturating_add(1));
        }
        let mut window = Window::new();
        if let Some(limit) = self.limit {
            window.set_limit(limit, self.is_limit_reported);
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

    /// Records the batch limit, if the cluster reveals it.
    pub(crate) fn set_limit(&mut self, reported: Option<usize>) {
        let Some(limit) = reported.or(self.limit.is_none().then_some(Window::LIMIT)) else {
            return;
        };
        if self.limit != Some(limit) || self.is_limit_reported != reported.is_some() {
            (self.limit, self.is_limit_reported) = (Some(limit), reported.is_some());
            for partition in &mut self.partitions {
                partition.window.set_limit(limit, reported.is_some());
            }
        }
    }

    /// Pauses the whole topic.
    pub(crate) fn pause(&mut self, now: Instant, why: &str) {
        PublishPause::extend(&mut self.pause, now, why);
        for partition in &mut self.partitions {
            partition.window.probe();
        }
    }

    /// Returns whether a refused key can be paused without its partition.
    pub(crate) fn keeps_apart(&self, key: &str) -> bool {
        self.keys.len() < MOST_KEYS || self.keys.contains_key(key)
    }

    /// Records a refusal of a key. Returns `true` if more than `REFUSED_KEYS` keys were refused
    /// without an acknowledgement in between, because then the topic is the cause.
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

    /// Records that a first record is sent to an empty partition.
    pub(crate) fn sent_first(&mut self, now: Instant) {
        self.moved = now;
        self.wanted = 0;
    }

    /// Records whether it has a leader.
    pub(crate) fn set_leader(&mut self, has_leader: bool, now: Instant) {
        let since = self.leaderless_since.unwrap_or(now);
        self.leaderless_since = (!has_leader).then_some(since);
    }

    /// Returns for how long it has had no leader, if it has none.
    pub(crate) fn leaderless(&self, now: Instant) -> Option<Duration> {
        self.leaderless_since.map(|since| now.saturating_duration_since(since))
    }

    /// Returns its limits.
    pub(crate) fn room(&self, now: Instant) -> Room {
        let is_live = |at| now.saturating_duration_since(at) < LIVE;
        Room { window: self.window.bytes(), is_live: self.acknowledged.is_some_and(is_live) }
    }

    /// Returns for how long Kafka has acknowledged nothing, if a record is in flight.
    pub(crate) fn silence(&self, now: Instant, under_way: usize) -> Option<Duration> {
        (under_way > 0).then(|| now.saturating_duration_since(self.moved))
    }

    /// Returns whether no record may be sent for now.
    pub(crate) fn is_closed(&self, now: Instant, under_way: usize) -> bool {
        self.leaderless_since.is_some()
            || self.pause.as_ref().is_some_and(|pause| !pause.is_over(now))
            || self.silence(now, under_way).is_some_and(|silence| silence > STALLED)
    }
}

impl RefusedKey {
    /// Returns whether a record may be sent: one at a time while it is unknown whether Kafka
    /// accepts any.
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
