//! Stops a subscription, looks for messages to probe meanwhile, and resumes it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::Record;
use kafka::rdkafka::consumer::Consumer;
use kafka::rdkafka::error::KafkaResult;
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::written;
use super::{Intake, QUESTION, set_paused};
use crate::message::Queued;
use crate::partitions::TopicPartition;
use crate::scan::{Scan, ScanRequest};

/// Interval of the measurements of the lag while the subscription is stopped.
const MEASURE_STOPPED: Duration = Duration::from_secs(5);

/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(5);

impl Intake {
    /// Drops the read messages and seeks back. The instance stays in the group, so that the lag is
    /// still measured and no rebalance moves partitions to instances that must not consume them
    /// either.
    pub(super) fn stop(&mut self) -> KafkaResult<()> {
        let places = self.partitions.stop(self.options.drain_timeout);
        let keys: Vec<_> = places.iter().map(|(key, _)| key.clone()).collect();
        set_paused(&self.consumer, &keys, true);
        self.seek_back(places)?;
        self.memory.hold(0);
        self.stopped = true;
        self.stopped_since = Instant::now();
        tracing::info!("consumption stopped, unfinished messages will be read again");
        Ok(())
    }

    pub(super) fn resume(&mut self) -> KafkaResult<()> {
        if self.scan.take().is_some() {
            // If the scan is dropped, its requester learns that there is nothing to probe.
            self.seek_back(self.partitions.all())?;
        }
        set_paused(&self.consumer, &self.partitions.resume_all(), false);
        self.stopped = false;
        tracing::info!("consumption resumed");
        Ok(())
    }

    /// Measures the lag while nothing is fetched, because the statistics contain the end of fetched
    /// partitions only.
    pub(super) fn measure_stopped(&mut self) {
        if self.measured.elapsed() < MEASURE_STOPPED {
            return;
        }
        self.measured = Instant::now();
        // While the cluster does not answer, the figures stay unchanged; each request takes a
        // second then.
        if let Err(error) = self.ask_for_lag() {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "lag of a stopped subscription not measured");
        }
    }

    fn ask_for_lag(&self) -> KafkaResult<()> {
        let mut lags = BTreeMap::<_, u64>::new();
        for (key, position) in self.partitions.all() {
            let lag = self.lag_of(&key, position)?;
            *lags.entry(key.0).or_default() += lag;
        }
        for (topic, lag) in &lags {
            self.instruments.lag(self.kafka.unprefixed(topic), *lag);
        }
        // Messages that were not read before the stop are mostly younger than that.
        let is_behind = lags.values().any(|lag| *lag > 0);
        let oldest = self.partitions.oldest().map(written);
        let age = oldest.unwrap_or_else(|| self.stopped_since.elapsed());
        self.instruments.age(if is_behind { age } else { Duration::ZERO });
        Ok(())
    }

    fn lag_of(&self, key: &TopicPartition, position: Option<i64>) -> KafkaResult<u64> {
        let (topic, partition) = key;
        let (low, high) = self.consumer.fetch_watermarks(topic, *partition, QUESTION)?;
        let begin = match position {
            Some(position) => position,
            None => self.committed(topic, *partition)?.unwrap_or(low),
        };
        Ok(u64::try_from(high - begin.max(low)).unwrap_or_default())
    }

    fn committed(&self, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition);
        let committed = self.consumer.committed_offsets(list, QUESTION)?;
        let offset = committed.elements().first().and_then(|it| it.offset().to_raw());
        Ok(offset.filter(|offset| *offset >= 0))
    }

    /// Pauses newly assigned partitions, unless they are scanned.
    pub(super) fn pause_all(&self) -> KafkaResult<()> {
        if self.scan.is_some() {
            return Ok(());
        }
        let keys = self.partitions.pause_all();
        set_paused(&self.consumer, &keys, true);
        let place = |key: TopicPartition| {
            let position = self.partitions.position(&key);
            (key, position)
        };
        self.seek_back(keys.into_iter().map(place).collect())
    }

    pub(super) fn begin_scan(&mut self, request: ScanRequest) -> KafkaResult<()> {
        self.end_scan(None)?;
        if !self.stopped {
            return Ok(());
        }
        let keys: Vec<_> = self.places_of(&request.event_type).into_iter().map(|it| it.0).collect();
        set_paused(&self.consumer, &keys, false);
        self.scan = Some(Scan::new(request));
        Ok(())
    }

    pub(super) fn end_scan(&mut self, found: Option<Record>) -> KafkaResult<()> {
        let Some(scan) = self.scan.take() else { return Ok(()) };
        let mut keys = self.partitions.pause_all();
        keys.extend(self.places_of(scan.event_type()).into_iter().map(|(key, _)| key));
        set_paused(&self.consumer, &keys, true);
        scan.end(found, |record| {
            let ticket = self.partitions.look_at(&record)?;
            Some(Queued { record, ticket })
        });
        // All, because the scan also reads the partitions that were assigned during it, whichever
        // types they carry.
        self.seek_back(self.partitions.all())
    }

    /// Returns the partitions that carry events of a type, and their positions.
    fn places_of(&self, event_type: &str) -> Vec<(TopicPartition, Option<i64>)> {
        let topics = self.subscription.topics_of(event_type).into_iter();
        let topics = topics.map(|topic| self.kafka.prefixed(topic));
        topics.flat_map(|topic| self.partitions.positions(&topic)).collect()
    }

    /// Seeks to the given offsets. A failure ends the run; the next run starts at the committed
    /// offsets.
    fn seek_back(&self, places: Vec<(TopicPartition, Option<i64>)>) -> KafkaResult<()> {
        for ((topic, partition), position) in places {
            // A partition that was revoked meanwhile can't be sought and need not be.
            let key = (topic.clone(), partition);
            if let Some(position) = position.filter(|_| self.partitions.is_assigned(&key)) {
                self.consumer.seek(&topic, partition, Offset::Offset(position), SEEK)?;
            }
        }
        Ok(())
    }
}
