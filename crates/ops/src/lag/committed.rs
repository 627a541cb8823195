//! Committed offsets. A client can only query those of its own group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::{Offset, TopicPartitionList};

use super::cluster::{client, place};
use super::partition_lag::TopicPartition;

/// Number of groups queried concurrently.
const AT_ONCE: usize = 8;
/// Number of clients to keep for the next measurement. Each has its own threads and connections.
const KEPT: usize = 32;

/// The offsets that a group has committed.
pub(super) type Committed = HashMap<TopicPartition, i64>;

/// Clients, one for each group.
#[derive(Default)]
pub(super) struct Clients(HashMap<String, Arc<BaseConsumer>>);

impl Clients {
    /// Returns the committed offsets of each group in these topics, or the reason why they are
    /// unknown.
    ///
    /// Queries in the given order. Groups that exceed the time limit are unknown.
    pub(super) fn committed(
        &mut self,
        settings: &Settings,
        groups: &[String],
        topics: &BTreeMap<String, Vec<i32>>,
        deadline: Instant,
    ) -> HashMap<String, Result<Committed, KafkaError>> {
        let mut answers = HashMap::new();
        for groups in groups.chunks(AT_ONCE) {
            // A cluster may have more groups than can be queried in time; creating their clients
            // takes time too.
            if Instant::now() >= deadline {
                break;
            }
            let clients = groups.iter().map(|group| (group, self.client(settings, group)));
            let clients: Vec<_> = clients.collect();
            std::thread::scope(|scope| {
                let ask = |(group, client): (&String, Result<Arc<BaseConsumer>, _>)| {
                    let group = group.clone();
                    let asking = scope.spawn(move || ask(&*client?, topics, deadline));
                    (group, asking)
                };
                let asked: Vec<_> = clients.into_iter().map(ask).collect();
                for (group, asking) in asked {
                    let answer = asking.join().unwrap_or(Err(KafkaError::Canceled));
                    answers.insert(group, answer);
                }
            });
            self.forget(groups);
        }
        answers
    }

    fn client(
        &mut self,
        settings: &Settings,
        group: &str,
    ) -> Result<Arc<BaseConsumer>, KafkaError> {
        if let Some(client) = self.0.get(group) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(client(settings, group)?);
        self.0.insert(group.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// Drops clients of the groups just queried, if there are too many.
    fn forget(&mut self, groups: &[String]) {
        let too_many = self.0.len().saturating_sub(KEPT);
        for group in groups.iter().take(too_many) {
            self.0.remove(group);
        }
    }
}

fn ask(
    client: &BaseConsumer,
    topics: &BTreeMap<String, Vec<i32>>,
    deadline: Instant,
) -> Result<Committed, KafkaError> {
    let within = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in partitions {
            list.add_partition(topic, *partition);
        }
    }
    if list.count() == 0 {
        return Ok(Committed::new());
    }
    let found = client.committed_offsets(list, within)?;
    let elements = found.elements();
    let mut committed = Committed::new();
    for element in &elements {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            committed.insert(place(element), offset);
        }
    }
    Ok(committed)
}
