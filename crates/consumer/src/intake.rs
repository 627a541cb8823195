//! The polling thread of a consumer: polls records from librdkafka, passes them to lanes, stores
//! offsets.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::rdkafka::client::ClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use kafka::rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use kafka::rdkafka::metadata::MetadataTopic;
use kafka::rdkafka::statistics::{Partition as StatisticsOfPartition, Statistics};
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::{Fetch, Record, Settings};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::instruments::Instruments;
use crate::keeper::Orders;
use crate::memory::Share;
use crate::message::{Queued, key_hash};
use crate::options::Options;
use crate::partitions::{ExceededLimits, Load, Partitions, TopicPartition};
use crate::scan::{Scan, ScanRequest};
use crate::status::Status;
use crate::subscription::Subscription;

const POLL: Duration = Duration::from_millis(50);
/// Interval of storing offsets: cheap (a lock and a copy), and committed only once a second.
const UPKEEP_EVERY: Duration = Duration::from_millis(20);

/// Source of the problem in the status.
const FOUND_BY: &str = "client";

/// Interval of the measurements of the lag while the subscription is stopped, and the time limit of
/// a measurement.
const MEASURE_STOPPED: Duration = Duration::from_secs(5);
const QUESTION: Duration = Duration::from_secs(1);

/// How long to wait for room in the lanes before partitions pause. A pause is expensive: the client
/// discards fetched messages, and takes half a second to fetch again. The polling thread does
/// nothing else while it waits.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(5);

/// Interval of the measurements of the lag.
const LAG_EVERY_MS: &str = "5000";
/// Maximum wait for the topics' metadata; then the group is joined anyway.
const TOPICS_KNOWN_WITHIN: Duration = Duration::from_secs(5);

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
fn written(at: i64) -> Duration {
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

fn store(consumer: &BaseConsumer<Context>, (topic, partition): &TopicPartition, offset: i64) {
    if let Err(error) = consumer.store_offset(topic, *partition, offset) {
        // The partition was revoked meanwhile; its new owner receives the message again.
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            topic,
            partition,
            "offset not stored"
        );
    }
}

pub(crate) struct Intake {
    consumer: BaseConsumer<Context>,
    partitions: Arc<Partitions>,
    lanes: Vec<UnboundedSender<Queued>>,
    options: Options,
    memory: Arc<Share>,
    /// The lanes did not make room for more bytes in time.
    is_full: bool,
    /// The partitions whose messages did not become fewer in time.
    full: HashSet<TopicPartition>,
    instruments: Instruments,
    kafka: Settings,
    subscription: Arc<Subscription>,
    orders: Orders,
    status: Status,
    /// `true` while a pause or an open circuit breaker stops it.
    stopped: bool,
    /// Time of the last stop.
    stopped_since: Instant,
    scans: UnboundedReceiver<ScanRequest>,
    /// The current scan.
    scan: Option<Scan>,
    /// Time of the last measurement of the lag without the statistics.
    measured: Instant,
}

/// Parameters of an intake, besides its client.
pub(crate) struct IntakeParameters {
    pub(crate) lanes: Vec<UnboundedSender<Queued>>,
    pub(crate) options: Options,
    pub(crate) memory: Arc<Share>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) orders: Orders,
    pub(crate) status: Status,
    pub(crate) scans: UnboundedReceiver<ScanRequest>,
}

impl Intake {
    /// Joins the group; `topics` are names on the cluster.
    pub(crate) fn new(
        group: &str,
        topics: &[String],
        context: Context,
        inlet: IntakeParameters,
    ) -> KafkaResult<Self> {
        let IntakeParameters { lanes, options, memory, subscription, orders, status, scans } =
            inlet;
        let partitions = Arc::clone(&context.partitions);
        let (kafka, instruments) = (context.kafka.clone(), context.instruments.clone());
        let fetch = Fetch { buffer: memory.of_client(), wait: options.fetch_wait };
        let mut config = kafka.consumer_with(group, fetch);
        config.set("statistics.interval.ms", LAG_EVERY_MS);
        let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        await_topics(&consumer, &topics)?;
        consumer.subscribe(&topics)?;
        Ok(Self {
            consumer,
            partitions,
            lanes,
            options,
            memory,
            is_full: false,
            full: HashSet::new(),
            instruments,
            kafka,
            subscription,
            orders,
            status,
            stopped: false,
            scans,
            scan: None,
            stopped_since: Instant::now(),
            measured: Instant::now(),
        })
    }

    /// Polls until shutdown, on the calling thread. Then waits for running handlers, commits and
    /// leaves the group. Returns `false` if a handler did not end in time.
    pub(crate) fn run(mut self, shutdown: &CancellationToken) -> KafkaResult<bool> {
        let polled = self.poll_until(shutdown);
        let drained = self.partitions.close(self.options.drain_timeout);
        self.store_finished();
        self.memory.hold(0);
        self.status.set_problems(FOUND_BY, Vec::new());
        self.has_no_lag();
        // Dropping the consumer commits the stored offsets and leaves the group.
        polled.map(|()| drained)
    }

    /// Reports that this instance has nothing to do, like a revocation: others have its partitions.
    fn has_no_lag(&self) {
        for topic in self.subscription.topics() {
            self.instruments.lag(topic, 0);
        }
        self.instruments.age(Duration::ZERO);
    }

    fn poll_until(&mut self, shutdown: &CancellationToken) -> KafkaResult<()> {
        let mut next_upkeep = Instant::now();
        let mut trouble = None;
        while !shutdown.is_cancelled() {
            // Before polling, because there may be an order to stop.
            if Instant::now() >= next_upkeep {
                self.ask_for_starts();
                self.store_finished();
                self.carry_out_orders()?;
                if !self.stopped {
                    self.relieve_pressure();
                }
                next_upkeep = Instant::now() + UPKEEP_EVERY;
            }
            let polled = self.consumer.poll(POLL);
            match polled.map(|it| it.map(|message| Record::from_message(&message))) {
                None => {}
                Some(Ok(record)) => {
                    if trouble.take().is_some() {
                        self.status.set_problems(FOUND_BY, Vec::new());
                    }
                    self.take(record)?;
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => {
                    // librdkafka recovers by itself; log the same error once.
                    let code = error.rdkafka_error_code();
                    if code != trouble {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Kafka client error"
                        );
                        if code.is_some_and(refuses) {
                            self.status.set_problems(FOUND_BY, vec![error.to_string()]);
                        }
                        trouble = code;
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, record: Record) -> KafkaResult<()> {
        if let Some(scan) = &mut self.scan {
            if self.partitions.look_at(&record).is_none() {
                return Ok(());
            }
            if let Some(found) = scan.look_at(record) {
                self.end_scan(Some(found))?;
            }
        } else if self.stopped {
            // A record of a partition that was assigned during a stop.
            self.partitions.look_at(&record);
            self.pause_all()?;
        } else {
            let partition = (record.topic.clone(), record.partition);
            self.dispatch(record);
            self.await_room(partition);
        }
        Ok(())
    }

    fn dispatch(&self, record: Record) {
        self.instruments.consumed(self.kafka.unprefixed(&record.topic));
        let lane = key_hash(&record) % self.lanes.len() as u64;
        let lane = usize::try_from(lane).unwrap_or_default();
        let Some(ticket) = self.partitions.enter(&record) else { return };
        // The lane has ended with its queue; the message is not finished and will be redelivered.
        let _ = self.lanes[lane].send(Queued { record, ticket });
    }

    /// Asks for the committed offsets of new assignments, before anything of them is stored. If
    /// the cluster does not answer, messages that were deleted while the group did not run are not
    /// counted.
    fn ask_for_starts(&self) {
        let assigned = self.partitions.take_assigned();
        if assigned.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(assigned.len());
        for (topic, partition) in &assigned {
            list.add_partition(topic, *partition);
        }
        match self.consumer.committed_offsets(list, QUESTION) {
            Ok(committed) => {
                for place in committed.elements() {
                    if let Offset::Offset(offset) = place.offset() {
                        let key = (place.topic().to_owned(), place.partition());
                        self.partitions.starts_at(&key, offset);
                    }
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "committed offsets of new assignments unknown");
            }
        }
    }

    fn store_finished(&self) {
        for (key, offset) in self.partitions.take_finished() {
            store(&self.consumer, &key, offset);
        }
    }

    /// Carries out the order: stop, resume, or look for a message to probe.
    fn carry_out_orders(&mut self) -> KafkaResult<()> {
        match (self.stopped, self.orders.stop()) {
            (false, true) => self.stop()?,
            (true, false) => self.resume()?,
            (true, true) => {
                self.pause_all()?;
                self.measure_stopped();
            }
            (false, false) => {}
        }
        while let Ok(request) = self.scans.try_recv() {
            self.begin_scan(request)?;
        }
        if self.scan.as_ref().is_some_and(Scan::is_over) {
            self.end_scan(None)?;
        }
        Ok(())
    }

    /// Drops the read messages and seeks back. The instance stays in the group, so that the lag is
    /// still measured and no rebalance moves partitions to instances that must not consume them
    /// either.
    fn stop(&mut self) -> KafkaResult<()> {
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

    fn resume(&mut self) -> KafkaResult<()> {
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
    fn measure_stopped(&mut self) {
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
    fn pause_all(&self) -> KafkaResult<()> {
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

    fn begin_scan(&mut self, request: ScanRequest) -> KafkaResult<()> {
        self.end_scan(None)?;
        if !self.stopped {
            return Ok(());
        }
        let keys: Vec<_> = self.places_of(&request.event_type).into_iter().map(|it| it.0).collect();
        set_paused(&self.consumer, &keys, false);
        self.scan = Some(Scan::new(request));
        Ok(())
    }

    fn end_scan(&mut self, found: Option<Record>) -> KafkaResult<()> {
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

    /// Waits for the lanes to free memory when the budget is used up.
    fn await_room(&mut self, partition: TopicPartition) {
        let Load { bytes, messages } = self.partitions.load(&partition);
        self.memory.hold(bytes);
        let allowed = self.memory.allowed();
        if bytes >= allowed {
            self.is_full = !self.partitions.await_less(allowed / 4 * 3, ROOM_WITHIN);
        }
        let most = self.options.max_queued;
        if messages >= most && !self.full.contains(&partition) {
            let goal = most - most / 4;
            if !self.partitions.await_fewer(&partition, goal, ROOM_WITHIN) {
                self.full.insert(partition);
            }
        }
    }

    fn relieve_pressure(&mut self) {
        self.memory.hold(self.partitions.bytes());
        let full = ExceededLimits {
            is_full: std::mem::take(&mut self.is_full),
            partitions: std::mem::take(&mut self.full),
        };
        let (messages, bytes) = (self.options.max_queued, self.memory.allowed());
        let pressure = self.partitions.pressure(messages, bytes, &full);
        set_paused(&self.consumer, &pressure.pause, true);
        set_paused(&self.consumer, &pressure.resume, false);
    }
}

/// Returns whether the cluster refuses because of a missing permission or its configuration. Other
/// errors are temporary.
fn refuses(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::SSL
            | Code::InvalidTopic
            | Code::InvalidGroupId
    )
}

/// Waits until every topic has metadata. A new topic may be unknown to some brokers; the group
/// would form without it and not consume it until the next metadata refresh.
fn await_topics(consumer: &BaseConsumer<Context>, topics: &[&str]) -> KafkaResult<()> {
    let deadline = Instant::now() + TOPICS_KNOWN_WITHIN;
    for topic in topics {
        loop {
            let metadata = consumer.fetch_metadata(Some(topic), TOPICS_KNOWN_WITHIN)?;
            let known = |it: &MetadataTopic| it.error().is_none() && !it.partitions().is_empty();
            if metadata.topics().iter().all(known) || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
    Ok(())
}

fn set_paused(consumer: &BaseConsumer<Context>, partitions: &[TopicPartition], paused: bool) {
    if partitions.is_empty() {
        return;
    }
    // Dropped before the consumer, because a remaining list makes the consumer's drop hang.
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let applied = if paused { consumer.pause(&list) } else { consumer.resume(&list) };
    if let Err(error) = applied {
        tracing::warn!(error = &error as &dyn std::error::Error, paused, "pause or resume failed");
    }
}
