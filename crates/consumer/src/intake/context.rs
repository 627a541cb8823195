//! Callbacks of librdkafka: measurements, and partitions that come and go.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka::Settings;
use kafka::rdkafka::client::ClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use kafka::rdkafka::statistics::{Partition as StatisticsOfPartition, Statistics};
use tokio::sync::mpsc::UnboundedSender;

use super::{set_paused, store};
use crate::instruments::Instruments;
use crate::partitions::{Partitions, TopicPartition};

/// librdkafka reports revocations by callbacks on the polling thread, inside `poll`.
pub(crate) struct Context {
    pub(crate) partitions: Arc<Partitions>,
    /// Receives the partitions that were released cleanly.
    pub(crate) left: UnboundedSender<Vec<TopicPartition>>,
    pub(crate) drain_timeout: Duration,
    pub(crate) instruments: Instruments,
    pub(crate) kafka: Settings,
}

impl ClientContext for Context {
    /// Updates the metrics of lag, age and lost messages. The statistics contain the end of each
    /// partition and the offset committed before its assignment.
    fn stats(&self, statistics: Statistics) {
        // While the subscription is stopped nothing is fetched, and these figures do not change.
        if self.partitions.is_stopped() {
            return;
        }
        for (topic, known) in statistics.topics {
            known.partitions.values().for_each(|partition| self.report_lost(&topic, partition));
            let partitions = known.partitions.values();
            let lag = partitions.filter_map(|partition| self.lag(&topic, partition)).sum();
            self.instruments.lag(self.kafka.unprefixed(&topic), lag);
        }
        self.instruments.age(self.partitions.oldest().map(written).unwrap_or_default());
    }
}

/// Returns how long ago a message was written, in milliseconds since 1970.
pub(super) fn written(at: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(at.unsigned_abs()))
}

impl Context {
    /// Reports messages that were deleted before they were read: the client passes over them
    /// without a word, and continues at the first message that is left. Offsets without a message
    /// are also left behind by transactions and by compaction, but not before the partition's first
    /// offset, which the client learns with each fetch.
    fn report_lost(&self, topic: &str, partition: &StatisticsOfPartition) {
        let key = (topic.to_owned(), partition.partition);
        if partition.lo_offset < 0 {
            return; // It is not known yet.
        }
        let Some(skipped) = self.partitions.take_skipped(&key) else { return };
        let lost = partition.lo_offset.min(skipped.end) - skipped.start;
        if let Ok(lost @ 1..) = u64::try_from(lost) {
            self.instruments.lost(lost);
            tracing::error!(
                topic,
                partition = partition.partition,
                offset = skipped.start,
                messages = lost,
                "messages were deleted before they were consumed, continuing at the first one left"
            );
        }
    }

    /// Returns the number of unfinished offsets of a partition, or `None` if it is not assigned to
    /// this instance or its end is unknown.
    fn lag(&self, topic: &str, partition: &StatisticsOfPartition) -> Option<u64> {
        let key = (topic.to_owned(), partition.partition);
        if !self.partitions.is_assigned(&key) {
            return None;
        }
        let (end, committed) = (partition.eof_offset, partition.committed_offset);
        // While the partition is not fetched, these figures are from an earlier assignment.
        let all_polled = partition.fetch_state == "active"
            && partition.fetchq_cnt == 0
            && partition.next_offset == end;
        if end >= 0 && end >= committed && all_polled {
            self.partitions.has_read(&key, end);
        }
        // A group without a committed offset starts at the first offset.
        let known = [partition.committed_offset, partition.lo_offset];
        let begin = || known.into_iter().find(|offset| *offset >= 0);
        let position = self.partitions.position(&key).or_else(begin)?;
        let ends = [partition.ls_offset, partition.hi_offset];
        let end = ends.into_iter().find(|offset| *offset >= 0)?;
        Some(u64::try_from(end - position).unwrap_or_default())
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let lost = consumer.assignment_lost();
        let keys = partitions.elements();
        let keys = keys.iter().map(|element| (element.topic().to_owned(), element.partition()));
        let mut left = Vec::new();
        for revoked in self.partitions.revoke(keys.collect(), self.drain_timeout) {
            // A lost partition belongs to another instance already, whose offset must not change.
            if let Some(offset) = revoked.finished.filter(|_| !lost) {
                store(consumer, &revoked.partition, offset);
            }
            if revoked.paused {
                set_paused(consumer, std::slice::from_ref(&revoked.partition), false);
            }
            if revoked.drained {
                left.push(revoked.partition);
            }
        }
        // The receiver is gone at shutdown, when all partitions are released at once.
        let _ = self.left.send(left);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            let assigned = partitions.elements();
            let keys = assigned.iter().map(|it| (it.topic().to_owned(), it.partition()));
            self.partitions.assign(keys);
        }
    }
}
