//! A separate consumer for each test, on real Postgres and Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consumer::{
    Consumer, Failure, Faults, Handler, Letters, Options, Received, State, Status, Subscription,
};
use envelope::{Cause, CorrelationId, Encoded, Event, NewEvent};
use kafka::rdkafka::Offset;
use kafka::rdkafka::admin::{AdminClient, AdminOptions};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use kafka::rdkafka::topic_partition_list::TopicPartitionList;
use kafka::rdkafka::util::Timeout;
use kafka::{Record, Settings, TopicPolicy, TopicSpec, Topics};
use sandbox::testing::{TestSpace, eventually};
use sqlx::{PgConnection, PgPool};
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::events::{Parcel, ParcelEvent, ParcelId, ParcelPacked, ParcelShipped};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Customer whose parcels fail in the handlers of the tests.
pub(crate) const CUSTOMER: &str = "trouble@example.com";

pub(crate) struct House {
    pub(crate) space: TestSpace,
    pub(crate) pool: PgPool,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) producer: FutureProducer,
    /// Trace context in which the events are created.
    pub(crate) traceparent: Option<String>,
}

pub(crate) struct Running {
    pub(crate) status: Status,
    pub(crate) faults: Faults,
    pub(crate) letters: Letters,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// Creates a topic, as its owner does.
pub(crate) async fn create(settings: &Settings, topic: TopicSpec) {
    let topics = Topics { owned: vec![topic], ..Topics::default() };
    let problems = kafka::ensure(settings, &topics, TopicPolicy::Create).await.unwrap();
    assert_eq!(problems, []);
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::on(|space| Settings::new(space.kafka_brokers(), space.topic_prefix())).await
    }

    /// Creates a house with another Kafka than the shared one.
    pub(crate) async fn on(kafka: impl FnOnce(&TestSpace) -> Settings) -> Self {
        let space = TestSpace::new().await;
        let pool =
            pg::PoolOptions::new("test").connect_lazily(space.database_url().parse().unwrap());
        consumer::migrate(&pool).await.unwrap();
        sqlx::query(
            "create table effect (id bigserial, subject text, version bigint, event_type text)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let settings = kafka(&space);
        for event_type in [ParcelPacked::TYPE, ParcelShipped::TYPE] {
            create(&settings, TopicSpec::new(event_type)).await;
        }
        let producer = settings.producer().create().unwrap();
        Self { space, pool, settings, metrics: Metrics::new("test"), producer, traceparent: None }
    }

    pub(crate) fn run(&self, subscription: Subscription) -> Running {
        self.run_with(Self::options(), subscription)
    }

    /// Returns options with short times.
    pub(crate) fn options() -> Options {
        Options {
            first_backoff: Duration::from_millis(50),
            backoff_factor: 2,
            handler_timeout: Duration::from_millis(500),
            ..Options::default()
        }
    }

    pub(crate) fn run_with(&self, options: Options, subscription: Subscription) -> Running {
        self.run_as(subscription, |consumer| consumer.options(options))
    }

    /// Runs it with the usual options, changed.
    pub(crate) fn run_as(
        &self,
        subscription: Subscription,
        change: impl FnOnce(Consumer) -> Consumer,
    ) -> Running {
        let meter = self.metrics.meter("consumer");
        let (pool, settings) = (self.pool.clone(), self.settings.clone());
        let consumer = Consumer::new(subscription, pool, settings, &meter);
        let consumer = change(consumer.options(Self::options()));
        let (status, faults, letters) = (consumer.status(), consumer.faults(), consumer.letters());
        let shutdown = CancellationToken::new();
        Running {
            status,
            faults,
            letters,
            shutdown: shutdown.clone(),
            task: tokio::spawn(consumer.run(shutdown)),
        }
    }

    pub(crate) async fn send<E: ParcelEvent>(&self, parcel: ParcelId, version: i64, email: &str) {
        self.send_times::<E>(1, parcel, version, email).await;
    }

    /// Sends one event `times` times.
    pub(crate) async fn send_times<E: ParcelEvent>(
        &self,
        times: usize,
        parcel: ParcelId,
        version: i64,
        email: &str,
    ) {
        let event = self.event::<E>(parcel, version, email);
        for _ in 0..times {
            self.publish(E::TYPE, &event).await;
        }
    }

    pub(crate) fn event<E: ParcelEvent>(
        &self,
        parcel: ParcelId,
        version: i64,
        email: &str,
    ) -> Encoded {
        let data = Parcel { number: parcel.to_string(), owner: "acme".into(), email: email.into() };
        let cause = Cause {
            traceparent: self.traceparent.clone(),
            ..Cause::new(CorrelationId::generate())
        };
        NewEvent::new("/warehouse", E::from(data), cause).version(version).encode().unwrap()
    }

    pub(crate) async fn publish(&self, topic: &str, event: &Encoded) {
        let topic = self.settings.prefixed(topic);
        let record = FutureRecord::to(&topic)
            .key(event.envelope.partition_key.as_deref().unwrap())
            .payload(&event.data)
            .headers(kafka::client_headers(&kafka::content_headers(&event.envelope)));
        self.producer.send(record, Timeout::Never).await.unwrap();
    }

    /// Publishes an event to a partition of a topic.
    pub(crate) async fn publish_on(&self, topic: &str, partition: i32, event: &Encoded) {
        let topic = self.settings.prefixed(topic);
        let record = FutureRecord::to(&topic)
            .partition(partition)
            .key(event.envelope.partition_key.as_deref().unwrap())
            .payload(&event.data)
            .headers(kafka::client_headers(&kafka::content_headers(&event.envelope)));
        self.producer.send(record, Timeout::Never).await.unwrap();
    }

    /// Publishes an event to its own topic in a transaction, whose end is an offset that is no
    /// message.
    pub(crate) async fn publish_in_transaction(&self, event: &Encoded) {
        let mut config = self.settings.producer();
        config.set("transactional.id", self.settings.prefixed("test")).set("acks", "all");
        let producer: FutureProducer = config.set("message.timeout.ms", "30000").create().unwrap();
        let topic = self.settings.prefixed(&event.envelope.event_type);
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let record = FutureRecord::to(&topic)
            .key(event.envelope.partition_key.as_deref().unwrap())
            .payload(&event.data)
            .headers(kafka::client_headers(&kafka::content_headers(&event.envelope)));
        producer.send(record, Timeout::Never).await.unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
    }

    /// Returns the sum of a group's committed offsets and that of the end offsets of a topic's
    /// partitions.
    pub(crate) fn committed_and_end(&self, group: &str, topic: &str) -> (i64, i64) {
        let client: BaseConsumer = self.settings.consumer(group).create().unwrap();
        let topic = self.settings.prefixed(topic);
        let metadata = client.fetch_metadata(Some(&topic), PATIENCE).unwrap();
        let mut sums = (0, 0);
        for partition in metadata.topics()[0].partitions() {
            let (_, end) = client.fetch_watermarks(&topic, partition.id(), PATIENCE).unwrap();
            let mut asked = TopicPartitionList::new();
            asked.add_partition(&topic, partition.id());
            let committed = client.committed_offsets(asked, PATIENCE).unwrap();
            let committed = committed.elements()[0].offset().to_raw().unwrap();
            sums = (sums.0 + committed.max(0), sums.1 + end);
        }
        sums
    }

    /// Deletes all records of a topic, as retention does.
    pub(crate) async fn delete_records(&self, topic: &str) {
        let topic = self.settings.prefixed(topic);
        let admin: AdminClient<DefaultClientContext> = self.settings.client().create().unwrap();
        let metadata = admin.inner().fetch_metadata(Some(&topic), PATIENCE).unwrap();
        let deleting = {
            let mut ends = TopicPartitionList::new();
            for partition in metadata.topics()[0].partitions() {
                ends.add_partition_offset(&topic, partition.id(), Offset::End).unwrap();
            }
            let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
            admin.delete_records(&ends, &options).await
        };
        deleting.unwrap();
    }

    /// Publishes an event in the JSON format.
    pub(crate) async fn publish_structured(&self, topic: &str, event: &serde_json::Value) {
        let (topic, payload) = (self.settings.prefixed(topic), event.to_string());
        let content_type = Some("application/cloudevents+json");
        let headers = [("content-type", content_type)].into_iter().collect();
        let headers = kafka::client_headers(&headers);
        let record =
            FutureRecord::<str, str>::to(&topic).key("key").payload(&payload).headers(headers);
        self.producer.send(record, Timeout::Never).await.unwrap();
    }

    /// Returns the first record of a topic.
    pub(crate) async fn first(&self, topic: &str) -> Record {
        self.read(topic, 1).await.remove(0)
    }

    /// Returns the first `count` records of a topic.
    pub(crate) async fn read(&self, topic: &str, count: usize) -> Vec<Record> {
        let reader: BaseConsumer = self.settings.consumer("reader").create().unwrap();
        reader.subscribe(&[&self.settings.prefixed(topic)]).unwrap();
        let mut records = Vec::new();
        while records.len() < count {
            let poll = async || match reader.poll(Duration::ZERO) {
                Some(Ok(message)) => Some(Record::from_message(&message)),
                _ => None,
            };
            records.push(eventually(&format!("a record in {topic}"), PATIENCE, poll).await);
        }
        records
    }

    pub(crate) async fn effects(&self, parcel: ParcelId) -> Vec<i64> {
        sqlx::query_scalar("select version from effect where subject = $1 order by id")
            .bind(parcel.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn has(&self, parcel: ParcelId, versions: &[i64]) {
        let has = async || (self.effects(parcel).await == versions).then_some(());
        eventually(&format!("effects {versions:?}"), PATIENCE, has).await;
    }

    /// Sends a parcel and waits for its effect, which proves that the consumer runs.
    pub(crate) async fn processes_one(&self) {
        let parcel = ParcelId::new();
        self.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
        self.has(parcel, &[1]).await;
    }

    /// Returns the sum of a counter over the matching labels.
    pub(crate) fn counter(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Running {
    /// Waits until the consumer halts, and returns the reason.
    pub(crate) async fn halted(&self) -> String {
        let halted = async || match self.status.state() {
            State::Halted(why) => Some(why),
            _ => None,
        };
        eventually("the consumer to refuse", PATIENCE, halted).await
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        assert_eq!(self.status.state(), State::Stopped);
    }
}

/// Handler that writes each event, and fails the first `times` times for parcels of [`CUSTOMER`].
pub(crate) struct Note<E> {
    pub(crate) trouble: fn() -> Failure,
    pub(crate) times: Arc<AtomicUsize>,
    pub(crate) event: std::marker::PhantomData<fn(E)>,
}

pub(crate) fn note<E>() -> Note<E> {
    troubled(0, || unreachable!())
}

pub(crate) fn troubled<E>(times: usize, trouble: fn() -> Failure) -> Note<E> {
    Note { trouble, times: Arc::new(AtomicUsize::new(times)), event: std::marker::PhantomData }
}

impl<E: ParcelEvent> Handler for Note<E> {
    type Event = E;

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<E>]) -> Result<(), Failure> {
        for event in events {
            sqlx::query("insert into effect (subject, version, event_type) values ($1, $2, $3)")
                .bind(&event.envelope.subject)
                .bind(event.envelope.version)
                .bind(E::TYPE)
                .execute(&mut *tx)
                .await?;
        }
        if events.iter().all(|event| event.data.parcel().email != CUSTOMER) {
            return Ok(());
        }
        let left = |times: usize| times.checked_sub(1);
        let trouble = if let [_alone] = events {
            self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
        } else {
            // A message that would fail alone also fails its batch, which does not count.
            self.times.load(Ordering::SeqCst) > 0
        };
        if trouble { Err((self.trouble)()) } else { Ok(()) }
    }
}

pub(crate) fn io() -> std::io::Error {
    std::io::Error::other("made for the test")
}
