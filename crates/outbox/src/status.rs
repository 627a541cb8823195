use std::fmt;

use tokio::sync::watch;

/// A topic whose events wait because Kafka does not accept them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PausedTopic {
    /// Name, without the prefix.
    pub topic: String,
    /// The paused partitions. Empty if the whole topic or only keys of it are paused.
    pub partitions: Vec<i32>,
    /// Number of keys that wait because of a refused record.
    pub keys: usize,
    /// Kafka's reason, as far as known.
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

/// Handle to what a relay can't publish at present. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayStatus {
    pub(crate) paused: watch::Receiver<Vec<PausedTopic>>,
    pub(crate) loss: watch::Receiver<Option<String>>,
}

impl RelayStatus {
    /// Returns the topics whose events wait because Kafka does not accept them, by name.
    pub fn paused(&self) -> Vec<PausedTopic> {
        self.paused.borrow().clone()
    }

    /// Returns why the relay publishes nothing at all, if it has lost its session in the database
    /// or its producer, until it works again.
    pub fn loss(&self) -> Option<String> {
        self.loss.borrow().clone()
    }
}
