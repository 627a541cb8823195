//! The Kafka cluster as a client sees it: leaders of partitions, and brokers in sync.

use std::time::Duration;

use kafka::Settings;
use kafka::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::RDKafkaErrorCode;
use kafka::rdkafka::metadata::{MetadataPartition, MetadataTopic};
use tokio::task::block_in_place;

use super::Error;

/// Time limit of a request.
const ASK: Duration = Duration::from_secs(5);
const TOPIC_OF_PROOF: &str = "chaos.proof";

/// A partition and its replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) id: i32,
    /// Id of its leader. `None` while there is none.
    pub(crate) leader: Option<u16>,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
}

/// Returns the partitions of a topic, or of all topics.
pub(crate) fn partitions(
    settings: &Settings,
    topic: Option<&str>,
) -> Result<Vec<Partition>, Error> {
    block_in_place(|| {
        let client: BaseConsumer = settings.client().create()?;
        let metadata = client.fetch_metadata(topic, ASK)?;
        Ok(metadata.topics().iter().flat_map(partitions_of).collect())
    })
}

fn partitions_of(topic: &MetadataTopic) -> impl Iterator<Item = Partition> {
    let partition = |it: &MetadataPartition| Partition {
        topic: topic.name().to_owned(),
        id: it.id(),
        // The id is -1 if there is no leader.
        leader: it.leader().try_into().ok(),
        replicas: it.replicas().len(),
        in_sync: it.isr().len(),
    };
    topic.partitions().iter().map(partition)
}

/// Returns the leader of a partition, or `None` if there is none or the cluster does not answer.
pub(crate) fn leader(settings: &Settings, topic: &str, id: i32) -> Option<u16> {
    let partitions = partitions(settings, Some(topic)).ok()?;
    partitions.into_iter().find(|partition| partition.id == id)?.leader
}

/// Returns `true` if every partition has a leader and all of its replicas are in sync.
pub(crate) fn is_in_sync(settings: &Settings) -> bool {
    let whole = |it: &Partition| it.leader.is_some() && it.in_sync == it.replicas;
    partitions(settings, None).is_ok_and(|all| all.iter().all(whole))
}

/// Creates a topic, which only an active controller can do.
pub(crate) async fn create_topic(settings: &Settings) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = settings.client().create()?;
    let topic = NewTopic::new(TOPIC_OF_PROOF, 1, TopicReplication::Fixed(-1));
    // A request to a controller that dies is never answered.
    let options = AdminOptions::new().request_timeout(Some(ASK));
    for created in admin.create_topics([&topic], &options).await? {
        match created {
            // An earlier attempt created it, whose answer was lost with its broker.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(code.into()),
        }
    }
    Ok(())
}
