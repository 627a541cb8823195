//! `orderflow flow` shows from a real Kafka what an expected event waits for.

use kafka::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka::rdkafka::{Offset, TopicPartitionList};
use kafka::{Settings, TopicPolicy, TopicSpec, Topics};
use sandbox::testing::TestSpace;

use crate::fake::{Services, run};
use crate::story::*;

/// Commits an offset for a group without members.
fn commit(settings: &Settings, group: &str, offset: i64) {
    let consumer: BaseConsumer = settings.consumer(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    let topic = settings.prefixed("order.completed");
    list.add_partition_offset(&topic, 0, Offset::Offset(offset)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_event_waits_behind_messages_or_was_passed() {
    let space = TestSpace::new().await;
    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    let topic = TopicSpec::with_name("order.completed".into()).partitions(1);
    let owned = Topics { owned: vec![topic], ..Topics::default() };
    kafka::ensure(&settings, &owned, TopicPolicy::Create).await.unwrap();
    let mut known = well();
    known[3].steps.clear();
    let services = Services::start(known).await;
    for (committed, status, expected) in [
        (None, 1, "expected, the group has committed nothing here"),
        (Some(30), 1, "expected, waits behind 1,204 messages"),
        (Some(1234), 1, "expected, it is the next message"),
        (Some(1235), 1, "expected, its offset was passed, and no record is kept"),
    ] {
        if let Some(offset) = committed {
            tokio::task::block_in_place(|| commit(&settings, "analytics", offset));
        }
        let mut command = services.command(&["c-1"]);
        command.env("KAFKA_BROKERS", space.kafka_brokers());
        command.env("KAFKA_TOPIC_PREFIX", space.topic_prefix());
        let ran = run(command).await;
        assert_eq!(ran.status, Some(status), "{ran:?}");
        let words: Vec<_> = ran.out.split_whitespace().filter(|it| *it != "│").collect();
        assert!(words.join(" ").contains(expected), "{expected}: {}", ran.out);
    }
}
