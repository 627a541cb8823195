use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::aside::Aside;
use crate::in_flight::InFlight;
use crate::pause::Pause;
use crate::window::Window;

/// A partition of which something is under way, and nothing was acknowledged for so long, gets nothing more.
const STALLED: Duration = Duration::from_secs(1);
/// How often the cluster is asked about a topic: partitions may be added.
const ASK: Duration = Duration::from_mins(1);
/// And while one of its partitions acknowledges nothing.
const ASK_WHILE_SILENT: Duration = Duration::from_secs(1);
/// So many refused keys of a topic are refused for a reason of the topic's.
const REFUSED_KEYS: usize = 100;

/// A topic, by its place in [`Topics`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TopicId(usize);

impl TopicId {
    #[cfg(test)]
    pub(crate) const FIRST: Self = Self(0);
}

/// The topics that rows were read of.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: HashMap<Arc<str>, TopicId>,
    all: Vec<Topic>,
}

impl Topics {
    pub(crate) fn id(&mut self, name: &str) -> TopicId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = TopicId(self.all.len());
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.all.push(Topic::new(name));
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
    on_cluster: Option<Arc<str>>,
    /// Its metrics are exported.
    has_begun: bool,
    /// None while their number is not known.
    pub(crate) partitions: Vec<Partition>,
    /// What it takes in a batch, if the cluster tells.
    limit: Option<usize>,
    pub(crate) pause: Option<Pause>,
    pub(crate) aside: Option<Aside>,
    /// Keys of which a record was refused.
    pub(crate) keys: HashMap<Arc<str>, RefusedKey>,
    /// When the cluster was last asked about it.
    pub(crate) asked: Option<Instant>,
    /// A number of partitions that comes into force once nothing of the topic is under way: it moves keys.
    next_count: Option<usize>,
}

/// A topic-partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) window: Window,
    pub(crate) pause: Option<Pause>,
    pub(crate) aside: Option<Aside>,
    /// The cost of a row that had no room: others wait until it has.
    pub(crate) wanted: usize,
    /// As of the last answer of the cluster.
    pub(crate) has_leader: bool,
    /// When Kafka last acknowledged a record, or the first one that is under way was sent.
    moved: Instant,
}

/// A key of which a record was refused.
#[derive(Debug, Default)]
pub(crate) struct RefusedKey {
    pub(crate) pause: Option<Pause>,
    pub(crate) aside: Option<Aside>,
}

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            on_cluster: None,
            has_begun: false,
            partitions: Vec::new(),
            limit: None,
            pause: None,
            aside: None,
            keys: HashMap::new(),
            asked: None,
            next_count: None,
        }
    }

    /// Returns `true` the first time.
    pub(crate) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    /// Returns its name on the cluster.
    pub(crate) fn on_cluster(&mut self, name: impl FnOnce(&str) -> String) -> Arc<str> {
        Arc::clone(self.on_cluster.get_or_insert_with(|| name(&self.name).into()))
    }

    /// Returns whether a row belongs to what was left of it.
    pub(crate) fn covers(&self, shard: i16, id: i64) -> bool {
        let partitions = self.partitions.iter().filter_map(|partition| partition.aside.as_ref());
        let keys = self.keys.values().filter_map(|refused| refused.aside.as_ref());
        self.aside.iter().chain(partitions).chain(keys).any(|aside| aside.covers(shard, id))
    }

    /// Returns whether the cluster is to be asked about it.
    pub(crate) fn has_question(&self, id: TopicId, flights: &InFlight, now: Instant) -> bool {
        let Some(asked) = self.asked else {
            return self.pause.as_ref().is_none_or(|pause| pause.is_over(now));
        };
        let is_silent = (0..)
            .zip(&self.partitions)
            .any(|(number, partition)| partition.is_closed(now, flights.load(id, number).records));
        now - asked > if is_silent { ASK_WHILE_SILENT } else { ASK }
    }

    /// Notes that Kafka acknowledged a record. It ends a pause, if it is the attempt that the pause let through.
    pub(crate) fn acknowledged(&mut self, number: i32, key: &str, cost: usize, now: Instant) {
        self.pause.take_if(|pause| pause.is_over(now));
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

    /// Returns whether it waits for what is under way to come back, to use a new number of partitions. Uses it if so.
    pub(crate) fn is_being_resized(&mut self, now: Instant, is_under_way: bool) -> bool {
        let Some(count) = self.next_count else { return false };
        if !is_under_way {
            self.resize(count, now);
        }
        is_under_way
    }

    /// What was left of single partitions goes to the topic's, since keys move between them.
    fn resize(&mut self, count: usize, now: Instant) {
        self.next_count = None;
        let left = self.partitions.drain(..).filter_map(|partition| partition.aside);
        for (shard, after) in left.flat_map(|aside| aside.lanes().collect::<Vec<_>>()) {
            let aside = self.aside.get_or_insert_default();
            aside.leave(shard, after.saturating_add(1));
        }
        let mut window = Window::new(self.limit);
        if self.pause.is_some() {
            window.probe();
        }
        let partition = || Partition {
            window,
            pause: None,
            aside: None,
            wanted: 0,
            has_leader: true,
            moved: now,
        };
        self.partitions.resize_with(count, partition);
    }

    /// Takes over how much a batch may have, if the cluster tells.
    pub(crate) fn set_limit(&mut self, told: Option<usize>) {
        let Some(limit) = told.or(self.limit.is_none().then_some(Window::LIMIT)) else { return };
        if self.limit != Some(limit) {
            self.limit = Some(limit);
            self.partitions.iter_mut().for_each(|partition| partition.window.set_limit(limit));
        }
    }

    /// Pauses all of it.
    pub(crate) fn pause(&mut self, now: Instant, why: &str) {
        Pause::extend(&mut self.pause, now, why);
        for partition in &mut self.partitions {
            partition.window.probe();
        }
    }

    /// Returns whether so many keys were refused that the topic is.
    pub(crate) fn refuses_all_keys(&self) -> bool {
        self.keys.len() > REFUSED_KEYS
    }
}

impl Partition {
    pub(crate) fn pause(&mut self, now: Instant, why: &str) {
        Pause::extend(&mut self.pause, now, why);
        self.window.probe();
    }

    fn acknowledged(&mut self, now: Instant, cost: usize) {
        self.moved = now;
        self.has_leader = true;
        self.pause.take_if(|pause| pause.is_over(now));
        self.window.acknowledged(cost);
    }

    /// Notes that a record is sent where none is under way.
    pub(crate) fn begins(&mut self, now: Instant) {
        self.moved = now;
        self.wanted = 0;
    }

    /// Returns for how long Kafka has acknowledged nothing, if something is under way.
    pub(crate) fn silence(&self, now: Instant, under_way: usize) -> Option<Duration> {
        (under_way > 0).then(|| now.saturating_duration_since(self.moved))
    }

    /// Returns whether nothing more may be sent for now.
    pub(crate) fn is_closed(&self, now: Instant, under_way: usize) -> bool {
        !self.has_leader
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
