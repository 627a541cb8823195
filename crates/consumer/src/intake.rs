//! The polling thread of a consumer: takes records out of librdkafka, gives them to lanes, stores offsets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::rdkafka::client::ClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use kafka::rdkafka::error::{KafkaError, KafkaResult};
use kafka::rdkafka::metadata::MetadataTopic;
use kafka::rdkafka::statistics::{Partition as StatisticsOfPartition, Statistics};
use kafka::rdkafka::topic_partition_list::TopicPartitionList;
use kafka::{Record, Settings};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::instruments::Instruments;
use crate::memory::Share;
use crate::message::Queued;
use crate::options::Options;
use crate::partitions::{Partitions, TopicPartition};

const POLL: Duration = Duration::from_millis(50);
/// Storing an offset is a lock and a copy, and it is committed once a second only.
const STORE_EVERY: Duration = Duration::from_millis(20);

/// How often the lag is measured.
const LAG_EVERY_MS: &str = "5000";
/// Then the group is joined all the same.
const TOPICS_KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Revocations come as callbacks, on the polling thread, inside of `poll`.
pub(crate) struct Context {
    pub(crate) partitions: Arc<Partitions>,
    /// Where it is said which were given up in good order.
    pub(crate) left: UnboundedSender<Vec<TopicPartition>>,
    pub(crate) drain_timeout: Duration,
    pub(crate) instruments: Instruments,
    pub(crate) kafka: Settings,
}

impl ClientContext for Context {
    /// librdkafka knows where each partition ends, and what was committed before it was assigned.
    fn stats(&self, statistics: Statistics) {
        for (topic, known) in statistics.topics {
            let partitions = known.partitions.values();
            let lag = partitions.filter_map(|partition| self.lag(&topic, partition)).sum();
            self.instruments.lag(self.kafka.unprefixed(&topic), lag);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = self.partitions.oldest().and_then(|at| u64::try_from(at).ok());
        let age = oldest.map(|at| now.saturating_sub(Duration::from_millis(at)));
        self.instruments.age(age.unwrap_or_default());
    }
}

impl Context {
    /// Returns how many offsets of a partition are not finished, or `None` if it is not assigned to this instance or its end
    /// is not known yet.
    fn lag(&self, topic: &str, partition: &StatisticsOfPartition) -> Option<u64> {
        let key = (topic.to_owned(), partition.partition);
        if !self.partitions.is_assigned(&key) {
            return None;
        }
        let (end, committed) = (partition.eof_offset, partition.committed_offset);
        // While it is not fetched, these are figures of an assignment before.
        let all_polled = partition.fetch_state == "active"
            && partition.fetchq_cnt == 0
            && partition.next_offset == end;
        if end >= 0 && end >= committed && all_polled {
            self.partitions.has_read(&key, end);
        }
        // A group that has committed nothing begins at the first offset there is.
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
            // What was lost belongs to another instance already, which must not see its offset change.
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
        // Nobody listens any more at the end, when everything is given up at once.
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
        // The partition went meanwhile; whoever has it now gets the message again.
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
    instruments: Instruments,
    kafka: Settings,
}

impl Intake {
    /// Joins the group; `topics` are names on the cluster.
    pub(crate) fn new(
        group: &str,
        topics: &[String],
        context: Context,
        lanes: Vec<UnboundedSender<Queued>>,
        options: Options,
        memory: Arc<Share>,
    ) -> KafkaResult<Self> {
        let partitions = Arc::clone(&context.partitions);
        let (kafka, instruments) = (context.kafka.clone(), context.instruments.clone());
        let mut config = kafka.consumer_within(group, memory.of_client());
        config.set("statistics.interval.ms", LAG_EVERY_MS);
        let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        await_topics(&consumer, &topics)?;
        consumer.subscribe(&topics)?;
        Ok(Self { consumer, partitions, lanes, options, memory, instruments, kafka })
    }

    /// Polls until shutdown, on the thread that calls it. Then waits for what runs, commits and leaves the
    /// group. False: not everything that ran ended in time.
    pub(crate) fn run(self, shutdown: &CancellationToken) -> KafkaResult<bool> {
        let mut next_store = Instant::now();
        let mut failure = None;
        let mut trouble = None;
        while !shutdown.is_cancelled() {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    trouble = None;
                    self.dispatch(Record::from_message(&message));
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    failure = Some(error);
                    break;
                }
                Some(Err(error)) => {
                    // librdkafka goes on by itself; the same trouble is said once.
                    let code = error.rdkafka_error_code();
                    if code != trouble {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Kafka client reports an error"
                        );
                        trouble = code;
                    }
                }
            }
            if Instant::now() >= next_store {
                self.store_finished();
                self.relieve_pressure();
                next_store = Instant::now() + STORE_EVERY;
            }
        }
        let drained = self.partitions.close(self.options.drain_timeout);
        self.store_finished();
        self.memory.hold(0);
        // Dropping the consumer commits what is stored and leaves the group.
        failure.map_or(Ok(drained), Err)
    }

    fn dispatch(&self, record: Record) {
        self.instruments.consumed(self.kafka.unprefixed(&record.topic));
        let mut hasher = DefaultHasher::new();
        match &record.key {
            Some(key) => key.hash(&mut hasher),
            None => (&record.topic, record.partition).hash(&mut hasher),
        }
        let lane = usize::try_from(hasher.finish() % self.lanes.len() as u64).unwrap_or_default();
        let ticket = self.partitions.enter(&record);
        // A lane that has ended took its queue with it; the message is not done and will come again.
        let _ = self.lanes[lane].send(Queued { record, ticket });
    }

    fn store_finished(&self) {
        for (key, offset) in self.partitions.take_finished() {
            store(&self.consumer, &key, offset);
        }
    }

    fn relieve_pressure(&self) {
        self.memory.hold(self.partitions.bytes());
        let pressure = self.partitions.pressure(self.options.max_queued, self.memory.allowed());
        set_paused(&self.consumer, &pressure.pause, true);
        set_paused(&self.consumer, &pressure.resume, false);
    }
}

/// A topic that was just created may not be known to every broker yet. The group would form without it, and hear
/// nothing of it until its metadata is read again.
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
    // Local, and gone before the consumer is: a list that lives on makes the consumer's drop hang.
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let applied = if paused { consumer.pause(&list) } else { consumer.resume(&list) };
    if let Err(error) = applied {
        tracing::warn!(error = &error as &dyn std::error::Error, paused, "pause or resume failed");
    }
}
