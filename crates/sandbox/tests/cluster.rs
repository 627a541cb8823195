//! Tests of a cluster of three brokers: use, failures, recovery and shutdown.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use sandbox::{Error, Kafka, ServerOptions, Silent, Tools, testing::eventually};

const SOON: Duration = Duration::from_secs(20);
const TOPIC: &str = "orders";

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "200");
    config
}

/// Returns the partition's leader, and its numbers of replicas and of replicas in sync.
fn partition(brokers: &str) -> Option<(u16, usize, usize)> {
    let client: BaseConsumer = client(brokers).create().unwrap();
    let metadata = client.fetch_metadata(Some(TOPIC), Duration::from_secs(2)).ok()?;
    let partition = metadata.topics().first()?.partitions().first()?;
    let leader = u16::try_from(partition.leader()).ok()?;
    Some((leader, partition.replicas().len(), partition.isr().len()))
}

async fn send(brokers: &str, limit: Duration) -> bool {
    let mut config = client(brokers);
    config.set("acks", "all").set("message.timeout.ms", limit.as_millis().to_string());
    let producer: FutureProducer = config.create().unwrap();
    producer.send(FutureRecord::<str, _>::to(TOPIC).payload("text"), SOON).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_brokers_go_on_and_one_takes_nothing() {
    let tools = Tools::find().unwrap();
    let mut kafka = Kafka::start_cluster(ServerOptions::default(), &tools, &Silent).await.unwrap();
    let brokers = kafka.brokers();
    assert_eq!(brokers.split(',').count(), 3, "{brokers}");
    assert!(kafka.broker(4).is_none());
    let admin: AdminClient<DefaultClientContext> = client(&brokers).create().unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(-1));
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let whole = async || partition(&brokers).filter(|(_, _, in_sync)| *in_sync == 3);
    let (leader, replicas, _) = eventually("three replicas in sync", SOON, whole).await;
    assert_eq!(replicas, 3);
    assert!(send(&brokers, SOON).await);

    kafka.broker(leader).unwrap().process().kill_9().await;
    let other = async || partition(&brokers).filter(|(it, ..)| *it != leader);
    eventually("another leader", SOON, other).await;
    assert!(send(&brokers, SOON).await, "two brokers take records");
    let controller = kafka.controller().await.unwrap();
    assert_ne!(controller, leader, "a dead node is not the controller");

    let second = (1..=3).find(|id| *id != leader).unwrap();
    kafka.broker(second).unwrap().halt().await;
    assert!(!send(&brokers, Duration::from_secs(3)).await, "one broker takes none");
    kafka.start_again().await.unwrap();
    eventually("three replicas in sync", SOON, whole).await;
    assert!(send(&brokers, SOON).await);

    let folder = kafka.folder().to_owned();
    kafka.stop().await;
    assert!(!folder.exists() && partition(&brokers).is_none());
}

#[tokio::test]
async fn a_cluster_is_not_left_running() {
    let tools = Tools::find().unwrap();
    let kafka = Kafka::start_cluster(ServerOptions::default(), &tools, &Silent).await.unwrap();
    let folder = kafka.folder().to_owned();
    assert!(matches!(kafka.detach(), Err(Error::NotDetachable(_))));
    assert!(!folder.exists());
}
