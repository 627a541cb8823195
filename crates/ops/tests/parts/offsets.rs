//! Committed offsets for tests.

use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka::rdkafka::error::KafkaError;
use kafka::rdkafka::types::RDKafkaErrorCode;
use kafka::rdkafka::{Offset, TopicPartitionList};

/// Commits an offset for a group, which has no members afterwards. Retries for as long as a new
/// cluster has no coordinator for the group.
pub(crate) fn commit(settings: &Settings, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = settings.consumer(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let start = Instant::now();
    while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
        let passes = matches!(
            error,
            KafkaError::ConsumerCommit(
                RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
            )
        );
        assert!(passes && start.elapsed() < Duration::from_secs(30), "{group}: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
