//! The consumer, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consumer::{
    Consumer, Failure, Fault, FaultKind, Faults, Handler, Options, Received, State, Status,
    Subscription,
};
use events::{
    Cause, CorrelationId, Event, Message, OrderCompleted, OrderCreated, OrderId, SCHEMAS,
};
use kafka::rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Coordinates, DeadLetter, Record, Settings, Topic};
use sandbox::testing::{TestSpace, eventually};
use sqlx::{PgConnection, PgPool};
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong in a handler, for orders of that customer.
const CUSTOMER: &str = "trouble@example.com";

struct House {
    pool: PgPool,
    settings: Settings,
    metrics: Metrics,
    producer: FutureProducer,
}

struct Running {
    status: Status,
    faults: Faults,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
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
        Self { pool, settings, metrics: Metrics::new("test"), producer }
    }

    fn run(&self, subscription: Subscription) -> Running {
        let options = Options {
            first_backoff: Duration::from_millis(50),
            backoff_factor: 2,
            handler_timeout: Duration::from_millis(500),
            ..Options::default()
        };
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

    async fn send<E: Event>(&self, order: OrderId, version: i64, email: &str) {
        self.send_times::<E>(1, order, version, email).await;
    }

    /// Sends one event so many times.
    async fn send_times<E: Event>(&self, times: usize, order: OrderId, version: i64, email: &str) {
        let file = SCHEMAS.iter().find(|file| file.event_type == E::TYPE).unwrap();
        let mut data: serde_json::Value = serde_json::from_str(file.example).unwrap();
        data["order_id"] = order.to_string().into();
        data["customer_email"] = email.into();
        let data: E = serde_json::from_value(data).unwrap();
        let cause = Cause {
            correlation_id: CorrelationId::generate(),
            causation_id: None,
            traceparent: None,
        };
        let event = Message::new("/order", version, data, cause).encode().unwrap();
        let topic = self.settings.prefixed(E::TYPE);
        for _ in 0..times {
            let record = FutureRecord::to(&topic)
                .key(&event.envelope.partition_key)
                .payload(&event.data)
                .headers(kafka::client_headers(&kafka::content_headers(&event.envelope)));
            self.producer.send(record, Timeout::Never).await.unwrap();
        }
    }

    /// The first record of a topic.
    async fn first(&self, topic: &str) -> Record {
        let reader: BaseConsumer = self.settings.consumer("reader").create().unwrap();
        reader.subscribe(&[&self.settings.prefixed(topic)]).unwrap();
        let poll = async || match reader.poll(Duration::ZERO) {
            Some(Ok(message)) => Some(Record::from_message(&message)),
            _ => None,
        };
        eventually(&format!("a record in {topic}"), PATIENCE, poll).await
    }

    /// Sends a dead letter to the group's retry topic, and gives what became of it.
    async fn replay(&self, letter: &Record, id: &str) -> (String, Option<String>) {
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

    async fn effects(&self, order: OrderId) -> Vec<i64> {
        sqlx::query_scalar("select version from effect where subject = $1 order by id")
            .bind(order.to_string())
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    async fn has(&self, order: OrderId, versions: &[i64]) {
        let has = async || (self.effects(order).await == versions).then_some(());
        eventually(&format!("effects {versions:?}"), PATIENCE, has).await;
    }

    /// The sum of a counter over its labels that match.
    fn counter(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Running {
    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        assert_eq!(self.status.state(), State::Stopped);
    }
}

/// Writes what it got, and fails the first so many times for orders of the troublesome customer.
struct Note<E> {
    trouble: fn() -> Failure,
    times: Arc<AtomicUsize>,
    event: std::marker::PhantomData<fn(E)>,
}

fn note<E>() -> Note<E> {
    troubled(0, || unreachable!())
}

fn troubled<E>(times: usize, trouble: fn() -> Failure) -> Note<E> {
    Note { trouble, times: Arc::new(AtomicUsize::new(times)), event: std::marker::PhantomData }
}

trait Customer {
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
}

fn io() -> std::io::Error {
    std::io::Error::other("made for the test")
}

#[tokio::test]
async fn a_duplicate_has_no_second_effect() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<OrderCreated>()));
    let order = OrderId::new();
    house.send_times::<OrderCreated>(5, order, 1, "a@example.com").await;
    house.send::<OrderCreated>(order, 2, "a@example.com").await;
    house.has(order, &[1, 2]).await;
    assert_eq!(house.counter("consumer_settled_total", "duplicate"), 4);
    running.end().await;
}

#[tokio::test]
async fn the_latest_wins_and_a_gap_is_counted_not_waited_for() {
    let house = House::new().await;
    let running = house.run(
        Subscription::new("analytics")
            .latest_wins(note::<OrderCreated>())
            .latest_wins(note::<OrderCompleted>()),
    );
    let order = OrderId::new();
    house.send::<OrderCompleted>(order, 3, "a@example.com").await;
    house.has(order, &[3]).await;
    house.send::<OrderCreated>(order, 1, "a@example.com").await;
    house.send::<OrderCreated>(order, 4, "a@example.com").await;
    house.has(order, &[3, 4]).await;
    let superseded =
        async || (house.counter("consumer_settled_total", "superseded") == 1).then_some(());
    eventually("one superseded", PATIENCE, superseded).await;
    assert_eq!(house.counter("consumer_gaps_total", ""), 1, "version 3 came without 1 and 2");
    let outcomes: Vec<String> = sqlx::query_scalar("select outcome from inbox order by outcome")
        .fetch_all(&house.pool)
        .await
        .unwrap();
    assert_eq!(outcomes, ["processed", "processed", "superseded"]);
    running.end().await;
}

#[tokio::test]
async fn each_once_takes_what_comes_late() {
    let house = House::new().await;
    let running = house.run(Subscription::new("history").each_once(note::<OrderCreated>()));
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 2, "a@example.com").await;
    house.send::<OrderCreated>(order, 1, "a@example.com").await;
    house.has(order, &[2, 1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_key_that_is_retried_keeps_its_order_and_holds_up_nobody_else() {
    let house = House::new().await;
    let handler = troubled::<OrderCreated>(3, || Failure::transient(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let order = OrderId::new();
    for version in 1..=3 {
        house.send::<OrderCreated>(order, version, CUSTOMER).await;
    }
    let others: Vec<_> = (0..20).map(|_| OrderId::new()).collect();
    for other in &others {
        house.send::<OrderCreated>(*other, 1, "a@example.com").await;
    }
    for other in &others {
        house.has(*other, &[1]).await;
    }
    house.has(order, &[1, 2, 3]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 3);
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    running.end().await;
}

#[tokio::test]
async fn what_is_unavailable_is_waited_for_and_not_counted() {
    let house = House::new().await;
    let handler = troubled::<OrderCreated>(6, || Failure::unavailable(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 1, CUSTOMER).await;
    let waiting = async || (running.status.state() == State::Waiting).then_some(());
    eventually("the state to say so", PATIENCE, waiting).await;
    house.has(order, &[1]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 0);
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    assert_eq!(house.counter("consumer_unavailable_total", ""), 6);
    running.end().await;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_rolled_back_and_retried() {
    struct Slow(Note<OrderCreated>);
    impl Handler for Slow {
        type Event = OrderCreated;
        async fn handle(
            &self,
            tx: &mut PgConnection,
            event: &Received<OrderCreated>,
        ) -> Result<(), Failure> {
            if self.0.times.fetch_add(1, Ordering::SeqCst) == 0 {
                sqlx::query("insert into effect (subject) values ('half')")
                    .execute(&mut *tx)
                    .await?;
                std::future::pending::<()>().await;
            }
            self.0.times.store(0, Ordering::SeqCst);
            self.0.handle(tx, event).await
        }
    }
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(Slow(note())));
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 1, "a@example.com").await;
    house.has(order, &[1]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 1);
    let halves: i64 = sqlx::query_scalar("select count(*) from effect where subject = 'half'")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(halves, 0);
    running.end().await;
}

#[tokio::test]
async fn nothing_is_consumed_while_a_dead_letter_cannot_be_written() {
    let house = House::new().await;
    let narrow = Topic { max_record_bytes: 100, ..Topic::dead_letters("group") };
    kafka::ensure(&house.settings, &[narrow]).await.unwrap();
    let handler = troubled::<OrderCreated>(1, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.send::<OrderCreated>(OrderId::new(), 1, CUSTOMER).await;
    let halted = async || (running.status.state() == State::Halted).then_some(());
    eventually("the consumer to halt", PATIENCE, halted).await;
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 1, "a@example.com").await;
    let consumed =
        async || (house.counter("messaging_client_consumed_messages_total", "") == 2).then_some(());
    eventually("the next message to arrive", PATIENCE, consumed).await;
    assert!(house.effects(order).await.is_empty(), "it is not worked on");

    let admin: AdminClient<DefaultClientContext> = house.settings.client().create().unwrap();
    let dlq = house.settings.prefixed("group.dlq");
    let wider =
        AlterConfig::new(ResourceSpecifier::Topic(&dlq)).set("max.message.bytes", "1000000");
    admin.alter_configs([&wider], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    house.has(order, &[1]).await;
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1);
    assert_eq!(running.status.state(), State::Running);
    running.end().await;
}

#[tokio::test]
async fn a_replay_is_told_what_became_of_it_and_keeps_its_identity() {
    let house = House::new().await;
    let handler = troubled::<OrderCreated>(2, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 1, CUSTOMER).await;
    let letter = house.first("group.dlq").await;
    let origin = Coordinates::carried_by(&letter).unwrap();

    let (outcome, reason) = house.replay(&letter, "r-1").await;
    assert_eq!((outcome.as_str(), reason.as_deref()), ("failed", Some("made for the test")));
    assert!(consumer::recovered(&house.pool, "group").await.unwrap().is_empty());
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 2, "it is a dead letter again");

    assert_eq!(house.replay(&letter, "r-2").await.0, "processed");
    assert_eq!(house.replay(&letter, "r-3").await.0, "duplicate");
    house.has(order, &[1]).await;
    let recovered = consumer::recovered(&house.pool, "group").await.unwrap();
    assert_eq!(recovered.len(), 1);
    let one = &recovered[0];
    assert_eq!(
        (&one.topic, one.partition, one.offset),
        (&origin.topic, origin.partition, origin.offset)
    );
    running.end().await;
}

#[tokio::test]
async fn a_fault_that_is_set_strikes_until_it_is_healed() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<OrderCreated>()));
    running.faults.set(Some(Fault { kind: FaultKind::Permanent, rate: 1.0, delay_ms: 0 }));
    let (broken, healed) = (OrderId::new(), OrderId::new());
    house.send::<OrderCreated>(broken, 1, "a@example.com").await;
    house.first("group.dlq").await;
    running.faults.set(None);
    house.send::<OrderCreated>(healed, 1, "a@example.com").await;
    house.has(healed, &[1]).await;
    assert!(house.effects(broken).await.is_empty());
    running.end().await;
}

#[tokio::test]
async fn a_new_generation_hears_everything_again() {
    let house = House::new().await;
    let order = OrderId::new();
    house.send::<OrderCreated>(order, 1, "a@example.com").await;
    let first = house.run(Subscription::new("group").each_once(note::<OrderCreated>()));
    house.has(order, &[1]).await;
    let second =
        house.run(Subscription::new("group").generation(2).each_once(note::<OrderCreated>()));
    house.has(order, &[1, 1]).await;
    first.end().await;
    second.end().await;
}
