use std::fmt;

use tokio::sync::watch;

/// A topic of which events wait because Kafka does not take them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PausedTopic {
    /// Name, without the prefix.
    pub topic: String,
    /// The partitions that are paused. None: the whole topic, or keys of it.
    pub partitions: Vec<i32>,
    /// How many keys wait because a record of theirs was refused.
    pub keys: usize,
    /// Kafka's reason, or what is known of it.
    pub why: String,
}

impl fmt::Display for PausedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partitions, keys, why } = self;
        match (partitions.as_slice(), keys) {
            ([], 0) => write!(f, "events of the topic {topic} wait: {why}"),
            ([], keys) => write!(f, "events of {keys} keys of the topic {topic} wait: {why}"),
            ([partition], _) => {
                write!(f, "events of partition {partition} of the topic {topic} wait: {why}")
            }
            (partitions, _) => {
                write!(
                    f,
                    "events of {} partitions of the topic {topic} wait: {why}",
                    partitions.len()
                )
            }
        }
    }
}

/// What a relay can't publish. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayStatus(pub(crate) watch::Receiver<Vec<PausedTopic>>);

impl RelayStatus {
    /// Returns the topics of which events wait because Kafka does not take them, by name.
    pub fn paused(&self) -> Vec<PausedTopic> {
        self.0.borrow().clone()
    }
}
