//! Measurements of all groups, one after the other. They block.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use kafka::Settings;
use kafka::rdkafka::consumer::BaseConsumer;
use tokio::runtime::Handle;

use super::cluster::{self, Listed, Topics};
use super::committed::Clients;
use super::consumed::Consumed;
use super::first_records::{First, PartitionOffset, first_records, ranked};
use super::group_lag::{GroupLag, Lag};
use super::partition_lag::{Ends, TopicPartition};
use super::progress::Progress;
use super::subscribed::Wanted;
use crate::error::Error;

/// Time limit of a request to Kafka, and time limit for all groups.
const ANSWER: Duration = Duration::from_secs(4);
const GROUPS: Duration = Duration::from_secs(6);
/// Time limit for reading records. Without them only the ages are unknown.
const RECORDS: Duration = Duration::from_secs(3);
/// Time limit of a measurement.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// How long the settings of topics are cached.
const RETENTION_KNOWN_FOR: Duration = Duration::from_mins(5);
const RETENTION_ANSWER: Duration = Duration::from_secs(3);

/// Measures lag, and keeps data for the next measurement.
pub(super) struct Measuring {
    settings: Settings,
    patience: Duration,
    client: Option<BaseConsumer>,
    clients: Clients,
    /// The first records that are not consumed, so that they are not read again.
    firsts: HashMap<PartitionOffset, First>,
    retention: Retention,
    progress: Progress,
    /// The topics that each group had before, by which a deleted topic is recognised.
    topics_before: HashMap<String, BTreeSet<String>>,
}

/// How long topics keep records. `None` means forever.
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

    /// Measures all groups. Fails if Kafka does not answer. A group that can't be measured contains
    /// the reason.
    pub(super) fn measure(&mut self, wanted: &Wanted, runtime: &Handle) -> Result<Lag, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => cluster::client(&self.settings, &self.settings.prefixed("reader"))
                .map_err(Error::kafka("configure the Kafka client"))?,
        };
        let measured = self.with_client(&client, wanted, runtime);
        // A client that failed may have requests in progress, so it is not reused.
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

    /// Finds the groups and their committed offsets.
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
        let is_ours = |(name, it): &(&String, &Listed)| {
            wanted.service_of(&self.settings, name, it.members).is_some()
        };
        let ours: BTreeSet<_> =
            listed.iter().filter(is_ours).map(|(name, _)| name.clone()).collect();
        let mut names: Vec<_> = listed.keys().cloned().collect();
        // If the time does not suffice for all, groups of other systems are left unknown, those
        // with another prefix first.
        let prefix = self.settings.prefixed("");
        names.sort_by_key(|name| (!ours.contains(name), !name.starts_with(&*prefix)));
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

    /// Reads the first record that each group has not consumed, unless it is known. If it can't be
    /// read, it stays unknown.
    fn read_firsts(&mut self, groups: &[Consumed], ends: &HashMap<TopicPartition, Ends>) {
        let mut places = ranked(groups, ends);
        // At an end there may be a record by now.
        self.firsts.retain(|place, first| places.contains_key(place) && *first != First::Nothing);
        places.retain(|place, _| !self.firsts.contains_key(place));
        let found = first_records(&self.settings, &places, Instant::now() + RECORDS);
        self.firsts.extend(found);
    }
}

impl Retention {
    /// Reads the settings of topics that are new or whose settings are old. Lag does not need them,
    /// and they require a right that not every user has.
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
