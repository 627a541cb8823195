//! One measurement of all groups after the other. Blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use kafka::Settings;
use kafka::rdkafka::consumer::BaseConsumer;
use tokio::runtime::Handle;

use super::cluster::{self, Topics};
use super::committed::Clients;
use super::consumed::Consumed;
use super::first_records::{First, Place, first_records};
use super::group_lag::{GroupLag, Lag};
use super::partition_lag::{Ends, TopicPartition};
use super::progress::Progress;
use super::subscribed::Wanted;
use crate::error::Error;

/// How long Kafka may take to answer, and how long all groups may take.
const ANSWER: Duration = Duration::from_secs(4);
const GROUPS: Duration = Duration::from_secs(6);
/// How long records may take to be read. Without their ages everything else is still known.
const RECORDS: Duration = Duration::from_secs(3);
/// How long a measurement may take.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// How long the settings of topics are believed.
const RETENTION_KNOWN_FOR: Duration = Duration::from_mins(5);
const RETENTION_ANSWER: Duration = Duration::from_secs(3);

/// Measures, and keeps what the next measurement needs.
pub(super) struct Measuring {
    settings: Settings,
    patience: Duration,
    client: Option<BaseConsumer>,
    clients: Clients,
    /// The first records that were not consumed; they need not be read again.
    firsts: HashMap<Place, First>,
    retention: Retention,
    progress: Progress,
    /// The topics of each group before, by which one is known that was deleted.
    topics_before: HashMap<String, BTreeSet<String>>,
}

/// How long topics keep records; `None` for ever.
#[derive(Default)]
struct Retention {
    of: BTreeMap<String, Option<Duration>>,
    asked: Option<Instant>,
}

impl Measuring {
    pub(super) fn new(settings: Settings, patience: Duration) -> Self {
        Self {
            settings,
            patience,
            client: None,
            clients: Clients::default(),
            firsts: HashMap::new(),
            retention: Retention::default(),
            progress: Progress::default(),
            topics_before: HashMap::new(),
        }
    }

    /// Fails if Kafka does not answer. A group that can't be measured says so itself.
    pub(super) fn measure(&mut self, wanted: &Wanted, runtime: &Handle) -> Result<Lag, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => cluster::client(&self.settings, &self.settings.prefixed("reader"))
                .map_err(Error::kafka("configure the Kafka client"))?,
        };
        let measured = self.with_client(&client, wanted, runtime);
        // One that failed may be in the middle of something.
        self.client = measured.is_ok().then_some(client);
        measured
    }

    fn with_client(
        &mut self,
        client: &BaseConsumer,
        wanted: &Wanted,
        runtime: &Handle,
    ) -> Result<Lag, Error> {
        let deadline = Instant::now() + GROUPS;
        let topics = cluster::topics(client, ANSWER).map_err(Error::kafka("connect to Kafka"))?;
        let groups = self.consumed(client, wanted, &topics, deadline)?;
        let partitions: BTreeSet<_> = groups.iter().flat_map(|it| it.partitions(&topics)).collect();
        let asked = partitions.difference(&topics.leaderless).cloned().collect();
        let ends = cluster::ends(client, &asked, ANSWER)
            .map_err(Error::kafka("find the ends of the partitions"))?;
        let at = SystemTime::now();
        self.read_firsts(&groups, &ends);
        self.retention.ask(&self.settings, &partitions, runtime);
        let groups = groups
            .iter()
            .map(|it| it.lag(&topics, &ends, &self.firsts, &self.retention.of, at, self.patience));
        let mut groups: Vec<GroupLag> = groups.collect();
        groups
            .sort_by(|a, b| (a.service.is_none(), &a.group).cmp(&(b.service.is_none(), &b.group)));
        self.progress.complete(&mut groups, Instant::now());
        Ok(Lag { at, groups })
    }

    /// Finds the groups, and what each of them has committed.
    fn consumed(
        &mut self,
        client: &BaseConsumer,
        wanted: &Wanted,
        topics: &Topics,
        deadline: Instant,
    ) -> Result<Vec<Consumed>, Error> {
        let only = wanted.only.as_ref().map(|group| self.settings.prefixed(group));
        let mut listed = cluster::groups(client, only.as_deref(), ANSWER)
            .map_err(Error::kafka("list the consumer groups"))?;
        for name in wanted.subscribed.iter().map(|it| self.settings.prefixed(&it.group)) {
            if only.as_ref().is_none_or(|only| *only == name) {
                listed.entry(name).or_default();
            }
        }
        let mut names: Vec<_> = listed.keys().cloned().collect();
        // Where there is no time for all, it is other people's groups that are unknown, and of those the ones of other
        // prefixes first.
        let prefix = self.settings.prefixed("");
        names.sort_by_key(|name| {
            let is_other_peoples = wanted.service_of(&self.settings, name).is_none();
            (is_other_peoples, !name.starts_with(&*prefix))
        });
        let settings = &self.settings;
        let mut committed = self.clients.committed(settings, &names, &topics.partitions, deadline);
        let groups = listed.into_iter().map(|(name, listed)| {
            let committed = committed.remove(&name);
            let before = self.topics_before.get(&name).cloned().unwrap_or_default();
            Consumed::new(settings, wanted, (name, listed), committed, before)
        });
        let groups: Vec<_> = groups.collect();
        let topics = groups.iter().map(|it| (it.name.clone(), it.topics.clone()));
        self.topics_before = topics.collect();
        Ok(groups)
    }

    /// Reads the first record that each group has not consumed, unless it is known. What can't be read stays unknown.
    fn read_firsts(&mut self, groups: &[Consumed], ends: &HashMap<TopicPartition, Ends>) {
        let places: BTreeSet<_> = groups.iter().flat_map(|it| it.places(ends)).collect();
        // At an end there may be a record by now.
        self.firsts.retain(|place, first| places.contains(place) && *first != First::Nothing);
        let new = places.into_iter().filter(|it| !self.firsts.contains_key(it)).collect();
        let found = first_records(&self.settings, &new, Instant::now() + RECORDS);
        self.firsts.extend(found);
    }
}

impl Retention {
    /// Asks for the settings of the topics, if they are new or were asked for long ago. They are not needed for lag, and
    /// take a right that not everybody has.
    fn ask(
        &mut self,
        settings: &Settings,
        partitions: &BTreeSet<TopicPartition>,
        runtime: &Handle,
    ) {
        let topics: BTreeSet<_> = partitions.iter().map(|it| it.topic.clone()).collect();
        let is_fresh = self.asked.is_some_and(|asked| asked.elapsed() < RETENTION_KNOWN_FOR);
        if topics.is_empty() || (is_fresh && topics.iter().all(|it| self.of.contains_key(it))) {
            return;
        }
        let topics: Vec<_> = topics.into_iter().collect();
        let asking = kafka::retention_of(settings, &topics);
        let answer =
            runtime.block_on(async { tokio::time::timeout(RETENTION_ANSWER, asking).await });
        if let Ok(Ok(of)) = answer {
            self.of = of;
        }
        self.asked = Some(Instant::now());
    }
}
