//! A consumer of the test's own, on real Postgres and Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consumer::{
    Consumer, Failure, Faults, Handler, Options, Received, State, Status, Subscription,
};
use events::{
    Cause, CorrelationId, Encoded, Event, Message, OrderCompleted, OrderCreated, OrderId, SCHEMAS,
};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{DeadLetter, Record, Settings, Topic};
use sandbox::testing::{TestSpace, eventually};
use sqlx::{PgConnection, PgPool};
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong in a handler, for orders of that customer.
pub(crate) const CUSTOMER: &str = "trouble@example.com";

pub(crate) struct House {
    pub(crate) pool: PgPool,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) producer: FutureProducer,
    /// Where its events are created.
    pub(crate) traceparent: Option<String>,
}

pub(crate) struct Running {
    pub(crate) status: Status,
    pub(crate) faults: Faults,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl House {
    pub(crate) async fn new() -> Self {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        consumer::migrate(&pool).await.unwrap();
        sqlx::query(
            "create table effect (id bigserial, subject text, version bigint, event_type text)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        kafka::ensure(&settings, &Topic::events()).await.unwrap();
        let producer = settings.producer().create().unwrap();
        Self { pool, settings, metrics: Metrics::new("test"), producer, traceparent: None }
    }

    pub(crate) fn run(&self, subscription: Subscription) -> Running {
        self.run_with(Self::options(), subscription)
    }

    /// Impatient.
    pub(crate) fn options() -> Options {
        Options {
            first_backoff: Duration::from_millis(50),
            backoff_factor: 2,
            handler_timeout: Duration::from_millis(500),
            ..Options::default()
        }
    }

    pub(crate) fn run_with(&self, options: Options, subscription: Subscription) -> Running {
        let meter = self.metrics.meter("consumer");
        let (pool, settings) = (self.pool.clone(), self.settings.clone());
        let consumer = Consumer::new(subscription, pool, settings, &meter).options(options);
        let (status, faults) = (consumer.status(), consumer.faults());
        let shutdown = CancellationToken::new();
        Running {
            status,
            faults,
            shutdown: shutdown.clone(),
            task: tokio::spawn(consumer.run(shutdown)),
        }
    }

    pub(crate) async fn send<E: Event>(&self, order: OrderId, version: i64, email: &str) {
        self.send_times::<E>(1, order, version, email).await;
    }

    /// Sends one event so many times.
    pub(crate) async fn send_times<E: Event>(
        &self,
        times: usize,
        order: OrderId,
        version: i64,
        email: &str,
    ) {
        let event = self.event::<E>(order, version, email);
        for _ in 0..times {
            self.publish(E::TYPE, &event).await;
        }
    }

    /// Sends an event to another type's topic.
    pub(crate) async fn send_to<E: Event>(&self, topic: &str, order: OrderId) {
        self.publish(topic, &self.event::<E>(order, 1, "a@example.com")).await;
    }

    fn event<E: Event>(&self, order: OrderId, version: i64, email: &str) -> Encoded {
        let file = SCHEMAS.iter().find(|file| file.event_type == E::TYPE).unwrap();
        let mut data: serde_json::Value = serde_json::from_str(file.example).unwrap();
        data["order_id"] = order.to_string().into();
        data["customer_email"] = email.into();
        let data: E = serde_json::from_value(data).unwrap();
        let cause = Cause {
            correlation_id: CorrelationId::generate(),
            causation_id: None,
            traceparent: self.traceparent.clone(),
        };
        Message::new("/order", version, data, cause).encode().unwrap()
    }

    async fn publish(&self, topic: &str, event: &Encoded) {
        let topic = self.settings.prefixed(topic);
        let record = FutureRecord::to(&topic)
            .key(&event.envelope.partition_key)
            .payload(&event.data)
            .headers(kafka::client_headers(&kafka::content_headers(&event.envelope)));
        self.producer.send(record, Timeout::Never).await.unwrap();
    }

    /// The first record of a topic.
    pub(crate) async fn first(&self, topic: &str) -> Record {
        let reader: BaseConsumer = self.settings.consumer("reader").create().unwrap();
        reader.subscribe(&[&self.settings.prefixed(topic)]).unwrap();
        let poll = async || match reader.poll(Duration::ZERO) {
            Some(Ok(message)) => Some(Record::from_message(&message)),
            _ => None,
        };
        eventually(&format!("a record in {topic}"), PATIENCE, poll).await
    }

    /// Sends a dead letter to the group's retry topic, and gives what became of it.
    pub(crate) async fn replay(&self, letter: &Record, id: &str) -> (String, Option<String>) {
        let headers = DeadLetter::replay_headers(letter, id);
        let topic = self.settings.prefixed("group.retry");
        let record = FutureRecord::to(&topic)
            .key(letter.key.as_deref().unwrap())
            .payload(letter.value.as_deref().unwrap())
            .headers(kafka::client_headers(&headers));
        self.producer.send(record, Timeout::Never).await.unwrap();
        let settled = async || consumer::replayed(&self.pool, id).await.unwrap();
        let replayed = eventually(&format!("replay {id}"), PATIENCE, settled).await;
        (replayed.outcome, replayed.reason)
    }

    pub(crate) async fn effects(&self, order: OrderId) -> Vec<i64> {
        sqlx::query_scalar("select version from effect where subject = $1 order by id")
            .bind(order.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn has(&self, order: OrderId, versions: &[i64]) {
        let has = async || (self.effects(order).await == versions).then_some(());
        eventually(&format!("effects {versions:?}"), PATIENCE, has).await;
    }

    /// The sum of a counter over its labels that match.
    pub(crate) fn counter(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Running {
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        assert_eq!(self.status.state(), State::Stopped);
    }
}

/// Writes what it got, and fails the first so many times for orders of the troublesome customer.
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

pub(crate) trait Customer {
    fn email(&self) -> &str;
}

impl Customer for OrderCreated {
    fn email(&self) -> &str {
        &self.0.customer_email
    }
}

impl Customer for OrderCompleted {
    fn email(&self) -> &str {
        &self.order.customer_email
    }
}

impl<E: Event + Customer> Handler for Note<E> {
    type Event = E;

    async fn handle(&self, tx: &mut PgConnection, event: &Received<E>) -> Result<(), Failure> {
        sqlx::query("insert into effect (subject, version, event_type) values ($1, $2, $3)")
            .bind(&event.envelope.subject)
            .bind(event.envelope.version)
            .bind(E::TYPE)
            .execute(tx)
            .await?;
        let left = |times: usize| times.checked_sub(1);
        if event.data.email() == CUSTOMER
            && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
        {
            return Err((self.trouble)());
        }
        Ok(())
    }

    /// What is trouble alone is trouble in a batch, without being counted.
    async fn handle_batch(
        &self,
        tx: &mut PgConnection,
        events: &[Received<E>],
    ) -> Result<(), Failure> {
        let troublesome = events.iter().any(|event| event.data.email() == CUSTOMER);
        if troublesome && self.times.load(Ordering::SeqCst) > 0 {
            return Err((self.trouble)());
        }
        for event in events {
            self.handle(tx, event).await?;
        }
        Ok(())
    }
}

pub(crate) fn io() -> std::io::Error {
    std::io::Error::other("made for the test")
}
