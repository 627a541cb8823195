use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::in_flight::InFlight;
use crate::instruments::Instruments;
use crate::pause::PublishPause;
use crate::status::PausedTopic;
use crate::topic::{Topic, TopicId, Topics};

/// Time without acknowledgement after which a partition is reported; longer than a slow broker
/// takes.
const SILENT: Duration = Duration::from_secs(5);
/// Duration after which a pause is reported; longer than the creation of a topic takes.
const PAUSED: Duration = Duration::from_secs(2);
/// Maximum number of topics named in a log line.
const NAMED: usize = 5;

/// Reports pauses, in one log line for all topics: once when they begin, once when they end.
#[derive(Debug)]
pub(crate) struct PauseReporter {
    reported: BTreeMap<String, Instant>,
    status: watch::Sender<Vec<PausedTopic>>,
}

impl PauseReporter {
    pub(crate) fn new(status: watch::Sender<Vec<PausedTopic>>) -> Self {
        Self { reported: BTreeMap::new(), status }
    }

    /// Compares the current pauses with the reported ones. A new session does not know yet which
    /// pauses have ended.
    pub(crate) fn report(
        &mut self,
        topics: &Topics,
        flights: &InFlight,
        instruments: &Instruments,
        is_settled: bool,
    ) {
        let now = Instant::now();
        let paused = topics.iter().filter_map(|(id, topic)| paused(id, topic, flights, now));
        let mut paused: Vec<_> = paused.collect();
        paused.sort_by(|one, other| one.topic.cmp(&other.topic));
        let new: Vec<_> =
            paused.iter().filter(|it| !self.reported.contains_key(&it.topic)).collect();
        if !new.is_empty() {
            tracing::error!(
                topics = new.len(),
                paused = %join(new.iter().map(ToString::to_string)),
                "topics paused, their events wait in the outbox"
            );
        }
        for topic in new {
            self.reported.insert(topic.topic.clone(), now);
        }
        let is_over = |topic: &String| is_settled && paused.iter().all(|it| it.topic != *topic);
        let over: Vec<_> = self.reported.extract_if(.., |topic, _| is_over(topic)).collect();
        if !over.is_empty() {
            let longest = over.iter().map(|(_, since)| now - *since).max();
            tracing::info!(
                topics = over.len(),
                resumed = %join(over.iter().map(|(topic, _)| topic.clone())),
                paused_for = ?longest.unwrap_or_default(),
                "topics resumed"
            );
        }
        for (topic, _) in over {
            instruments.paused(&topic, false);
        }
        // Each time, because a new session exports the topics it sees at 0.
        for topic in self.reported.keys() {
            instruments.paused(topic, true);
        }
        self.status.send_if_modified(|status| {
            let is_new = *status != paused;
            *status = paused;
            is_new
        });
    }
}

/// Clears the report when the relay ends.
impl Drop for PauseReporter {
    fn drop(&mut self) {
        self.status.send_replace(Vec::new());
    }
}

fn join(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    let shown = names[..names.len() - more].join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

fn paused(id: TopicId, topic: &Topic, flights: &InFlight, now: Instant) -> Option<PausedTopic> {
    let entry = |partitions, keys, why: &str| {
        let topic = topic.name.to_string();
        Some(PausedTopic { topic, partitions, keys, why: why.to_owned() })
    };
    let lasts = |pause: &&PublishPause| pause.age(now) >= PAUSED;
    if let Some(whole) = topic.pause.as_ref().filter(lasts) {
        return entry(Vec::new(), 0, &whole.why);
    }
    let mut why = None;
    let mut numbers = Vec::new();
    for (number, partition) in (0..).zip(&topic.partitions) {
        let under_way = flights.load(id, number).records;
        let silence = partition.silence(now, under_way).filter(|silence| *silence >= SILENT);
        // An election takes less time, and without waiting rows the outage has no effect.
        let waits = under_way > 0 || partition.aside.is_some();
        let leaderless = partition.leaderless(now).filter(|since| *since >= PAUSED && waits);
        if let Some(own) = partition.pause.as_ref().filter(lasts) {
            why.get_or_insert(&*own.why);
        } else if leaderless.is_some() {
            why.get_or_insert("no leader");
        } else if silence.is_some() {
            why.get_or_insert("Kafka does not acknowledge");
        } else {
            continue;
        }
        numbers.push(number);
    }
    if let Some(why) = why {
        return entry(numbers, 0, why);
    }
    let refused = topic.keys.values().filter_map(|key| key.pause.as_ref().filter(lasts));
    let why = refused.map(|refused| &*refused.why).next()?;
    entry(Vec::new(), topic.keys.len(), why)
}
