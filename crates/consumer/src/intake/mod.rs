//! The polling thread of a consumer: polls records from librdkafka, passes them to lanes, stores
//! offsets.

mod context;
mod refusal;
mod stopped;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use kafka::rdkafka::metadata::MetadataTopic;
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::{Fetch, Record, Settings};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

pub(crate) use self::context::Context;
use self::refusal::Refusal;
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

/// Time limit of a question to the cluster.
const QUESTION: Duration = Duration::from_secs(1);

/// How long to wait for room in the lanes before partitions pause. A pause is expensive: the client
/// discards fetched messages, and takes half a second to fetch again. The polling thread does
/// nothing else while it waits.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// Interval of the measurements of the lag.
const LAG_EVERY_MS: &str = "5000";
/// Maximum wait for the topics' metadata; then the group is joined anyway.
const TOPICS_KNOWN_WITHIN: Duration = Duration::from_secs(5);

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
    /// The code of the last error of the client, until a record arrives or a refusal ends.
    last_error: Option<RDKafkaErrorCode>,
    refusal: Option<Refusal>,
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
            last_error: None,
            refusal: None,
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
        while !shutdown.is_cancelled() {
            // Before polling, because there may be an order to stop.
            if Instant::now() >= next_upkeep {
                self.ask_for_starts();
                self.store_finished();
                self.carry_out_orders()?;
                if !self.stopped {
                    self.relieve_pressure();
                }
                self.look_for_end_of_refusal();
                next_upkeep = Instant::now() + UPKEEP_EVERY;
            }
            let polled = self.consumer.poll(POLL);
            match polled.map(|it| it.map(|message| Record::from_message(&message))) {
                None => {}
                Some(Ok(record)) => {
                    self.is_let_in();
                    self.take(record)?;
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => self.report_error(&error),
            }
        }
        Ok(())
    }

    /// Logs an error of the client, which recovers by itself, unless it is that of the last time.
    fn report_error(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if self.last_error == Some(code) {
            return;
        }
        tracing::warn!(error = error as &dyn std::error::Error, "Kafka client error");
        self.last_error = Some(code);
        let assignments = self.partitions.assignments();
        if let Some(refusal) = Refusal::reported_by(code, assignments, Instant::now()) {
            self.status.set_problems(FOUND_BY, vec![error.to_string()]);
            self.refusal = Some(refusal);
        }
    }

    /// Ends a refusal that is over, although there may be no record for days.
    fn look_for_end_of_refusal(&mut self) {
        let Some(refusal) = &mut self.refusal else { return };
        let has_ended = refusal.has_ended(self.partitions.assignments());
        if has_ended || refusal.is_to_be_asked(Instant::now()) && self.is_answered() {
            self.is_let_in();
        }
    }

    fn is_answered(&self) -> bool {
        let topic = self.subscription.topics().into_iter().next();
        let topic = topic.map(|topic| self.kafka.prefixed(topic));
        self.consumer.fetch_metadata(topic.as_deref(), QUESTION).is_ok()
    }

    fn is_let_in(&mut self) {
        self.last_error = None;
        if self.refusal.take().is_some() {
            self.status.set_problems(FOUND_BY, Vec::new());
        }
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
