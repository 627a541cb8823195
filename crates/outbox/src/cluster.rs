use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::Settings;
use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use kafka::rdkafka::metadata::MetadataPartition;
use kafka::rdkafka::producer::Producer;
use kafka::rdkafka::types::RDKafkaRespErr;
use tokio::time::timeout;

use crate::sender::Client;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The cluster's answers about topics, by their names on the cluster.
pub(crate) type Answers = BTreeMap<String, TopicAnswer>;
/// Maximum bytes of a batch, if known, by the topics' names on the cluster.
pub(crate) type Limits = BTreeMap<String, Option<usize>>;

/// The cluster's answer about a topic.
#[derive(Debug)]
pub(crate) enum TopicAnswer {
    Exists {
        partitions: usize,
        without_leader: Vec<i32>,
    },
    /// The topic can't be written, for this reason.
    Refused(RDKafkaErrorCode),
    /// The cluster did not answer.
    Unavailable(KafkaError),
}

/// Requests the partitions of topics, through the client that will write to them, which caches
/// their leaders.
pub(crate) async fn ask(client: Arc<Client>, topics: Vec<String>) -> Answers {
    let asking = tokio::task::spawn_blocking(move || {
        let mut answers = BTreeMap::new();
        for topic in topics {
            let answer = ask_about(&client, &topic);
            let is_unavailable = matches!(answer, TopicAnswer::Unavailable(_));
            answers.insert(topic, answer);
            if is_unavailable {
                break; // The others would wait for their time-outs one after the other.
            }
        }
        answers
    });
    // The task neither panics nor is aborted.
    asking.await.unwrap_or_default()
}

/// Requests the size limits of topics. Without an answer, or without permission, refusals reveal
/// the limits.
pub(crate) async fn ask_limits(settings: Settings, topics: Vec<String>) -> Limits {
    let limits = timeout(TIMEOUT, kafka::record_limits(&settings, &topics)).await;
    let limits = limits.ok().and_then(Result::ok).unwrap_or_default();
    let by_topic = topics.into_iter().map(|topic| {
        let limit = limits.get(&topic).copied();
        (topic, limit)
    });
    by_topic.collect()
}

fn ask_about(client: &Client, topic: &str) -> TopicAnswer {
    let metadata = match client.client().fetch_metadata(Some(topic), TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => return refused_locally(error),
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return TopicAnswer::Refused(RDKafkaErrorCode::UnknownTopicOrPartition);
    };
    match found.error() {
        // The topic exists, and one of its partitions has no leader for now.
        None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
            if !found.partitions().is_empty() =>
        {
            let without = found.partitions().iter().filter(|partition| partition.leader() < 0);
            TopicAnswer::Exists {
                partitions: found.partitions().len(),
                without_leader: without.map(MetadataPartition::id).collect(),
            }
        }
        None => TopicAnswer::Refused(RDKafkaErrorCode::UnknownTopicOrPartition),
        Some(code) => TopicAnswer::Refused(code.into()),
    }
}

/// Translates a refusal by the client itself, for example of an invalid topic name.
fn refused_locally(error: KafkaError) -> TopicAnswer {
    match error.rdkafka_error_code() {
        Some(code @ (RDKafkaErrorCode::InvalidArgument | RDKafkaErrorCode::InvalidTopic)) => {
            TopicAnswer::Refused(code)
        }
        _ => TopicAnswer::Unavailable(error),
    }
}
