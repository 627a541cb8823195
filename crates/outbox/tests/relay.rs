//! The relay, on real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use envelope::{Cause, CorrelationId, Event, NewEvent, Schema, TopicSpec};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::{Record, Settings, TopicPolicy, Topics};
use outbox::{Prepared, Relay, RelayWaker};
use sandbox::testing::{TestSpace, eventually};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: TopicSpec = TopicSpec::new(ParcelShipped::TYPE);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static SHIPPED: Schema =
    Schema::new(r#"{ "$id": "https://example.com/parcel.shipped/1.0.json", "type": "object" }"#);

#[derive(Serialize, Deserialize)]
struct ParcelShipped {
    parcel: String,
    number: i64,
}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        self.parcel.as_str().into()
    }
}

struct House {
    pool: PgPool,
    settings: Settings,
    wake: RelayWaker,
    metrics: Metrics,
}

impl House {
    async fn new() -> Self {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        outbox::migrate(&pool).await.unwrap();
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let topics = Topics { owned: vec![TOPIC], ..Topics::default() };
        let problems = kafka::ensure(&settings, &topics, TopicPolicy::Create).await.unwrap();
        assert_eq!(problems, []);
        Self { pool, settings, wake: RelayWaker::default(), metrics: Metrics::new("test") }
    }

    fn relay(&self) -> (CancellationToken, JoinHandle<()>) {
        let database = (*self.pool.connect_options()).clone();
        let meter = self.metrics.meter("outbox");
        let relay = Relay::new(database, self.settings.clone(), self.wake.clone(), &meter);
        let shutdown = CancellationToken::new();
        (shutdown.clone(), tokio::spawn(relay.run(shutdown)))
    }

    async fn write(&self, events: &[Prepared]) {
        let mut tx = self.pool.begin().await.unwrap();
        outbox::append(&mut tx, events).await.unwrap();
        tx.commit().await.unwrap();
        self.wake.wake();
    }

    async fn waiting(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outbox").fetch_one(&self.pool).await.unwrap()
    }

    async fn drained(&self) {
        let empty = async || (self.waiting().await == 0).then_some(());
        eventually("an empty outbox", PATIENCE, empty).await;
    }

    /// How many shards each relay holds.
    async fn shards(&self) -> Vec<i64> {
        sqlx::query_scalar(
            "select count(*) from pg_locks where locktype = 'advisory' and objid::int8 < 4294967295
             and database = (select oid from pg_database where datname = current_database())
             group by pid order by 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    async fn shares(&self, wanted: &[i64]) {
        let share = async || (self.shards().await == wanted).then_some(());
        eventually(&format!("shares of {wanted:?}"), PATIENCE, share).await;
    }

    /// All records of the topic, in the order of each partition.
    fn published(&self) -> Vec<Record> {
        let consumer: BaseConsumer = self.settings.consumer("reader").create().unwrap();
        let topic = self.settings.prefixed(&TOPIC.name);
        let mut list = TopicPartitionList::new();
        let mut ends = 0;
        for partition in 0..TOPIC.partitions {
            list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
            ends += consumer.fetch_watermarks(&topic, partition, PATIENCE).unwrap().1;
        }
        consumer.assign(&list).unwrap();
        drop(list);
        let mut records = Vec::new();
        while i64::try_from(records.len()).unwrap() < ends {
            let message = consumer.poll(PATIENCE).unwrap().unwrap();
            records.push(Record::from_message(&message));
        }
        records
    }
}

fn shipped(parcel: &str, number: i64) -> Prepared {
    let cause = Cause {
        traceparent: Some(PARENT.into()),
        tracestate: Some("vendor=1".into()),
        ..Cause::new(CorrelationId::generate())
    };
    let data = ParcelShipped { parcel: parcel.to_owned(), number };
    outbox::prepare(NewEvent::new("/warehouse", data, cause).version(number)).unwrap()
}

fn number(record: &Record) -> i64 {
    let event = kafka::decode(record).unwrap();
    event.envelope.read::<ParcelShipped>(&event.data).unwrap().number
}

/// The numbers of each key, in the order in which each was first published.
fn first_deliveries(records: &[Record]) -> HashMap<Vec<u8>, Vec<i64>> {
    let mut by_key: HashMap<_, Vec<i64>> = HashMap::new();
    for record in records {
        let numbers = by_key.entry(record.key.clone().unwrap()).or_default();
        let number = number(record);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    by_key
}

#[tokio::test]
async fn what_commits_is_published_as_it_was_prepared_and_what_rolls_back_never_is() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    let order = "P-1";
    let mut rolled_back = house.pool.begin().await.unwrap();
    outbox::append(&mut rolled_back, &[shipped(order, 1)]).await.unwrap();
    rolled_back.rollback().await.unwrap();
    let committed = shipped(order, 2);
    house.write(std::slice::from_ref(&committed)).await;
    house.drained().await;

    let records = house.published();
    assert_eq!(records.len(), 1);
    let published = kafka::decode(&records[0]).unwrap().envelope;
    assert_eq!(&published, committed.envelope());
    assert_eq!(published.tracestate.as_deref(), Some("vendor=1"), "it travels with traceparent");
    assert_eq!(number(&records[0]), 2);
    assert_eq!(records[0].key, Some(order.as_bytes().to_vec()));
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn rows_that_commit_out_of_order_are_all_published() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    let mut early = house.pool.begin().await.unwrap();
    outbox::append(&mut early, &[shipped("P-1", 1)]).await.unwrap();
    house.write(&[shipped("P-2", 2)]).await;
    house.drained().await; // the later id is published and deleted
    early.commit().await.unwrap();
    house.drained().await; // nobody woke the relay: it polls
    let mut numbers: Vec<_> = house.published().iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn relays_share_the_shards_and_take_over_in_order() {
    const KEYS: usize = 20;
    const EACH: i64 = 100;
    let house = House::new().await;
    let (_, first) = house.relay();
    house.shares(&[16]).await;
    let (shutdown, second) = house.relay();
    house.shares(&[8, 8]).await;

    let parcels: Vec<_> = (0..KEYS).map(|key| format!("P-{key}")).collect();
    for number in 1..=EACH {
        let batch: Vec<_> = parcels.iter().map(|order| shipped(order, number)).collect();
        house.write(&batch).await;
        if number == EACH / 2 {
            first.abort(); // dies without a word, with records under way
        }
    }
    house.drained().await;
    house.shares(&[16]).await;
    let delivered = first_deliveries(&house.published());
    assert_eq!(delivered.len(), KEYS);
    for numbers in delivered.values() {
        assert_eq!(*numbers, (1..=EACH).collect::<Vec<_>>());
    }
    shutdown.cancel();
    second.await.unwrap();
}

#[tokio::test]
async fn a_backlog_of_many_batches_is_published_once_and_in_order() {
    let house = House::new().await;
    let parcels: Vec<_> = (0..40).map(|key| format!("P-{key}")).collect();
    for number in 1..=50 {
        let events: Vec<_> = parcels.iter().map(|order| shipped(order, number)).collect();
        house.write(&events).await;
    }
    let (shutdown, relay) = house.relay();
    house.drained().await;
    let records = house.published();
    assert_eq!(records.len(), 40 * 50, "each once: what is under way is not selected again");
    let all: Vec<_> = (1..=50).collect();
    assert!(first_deliveries(&records).values().all(|numbers| *numbers == all));
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_key_that_kafka_refuses_waits_and_the_others_go_on() {
    let house = House::new().await;
    let (refused, fine) = ("P-1", "P-2");
    house.write(&[shipped(refused, 1), shipped(refused, 2), shipped(fine, 1)]).await;
    // A topic that is not there: what Kafka refuses for good, and an operator can mend.
    sqlx::query("update outbox set topic = 'no.such.topic/' where key = $1 and id = (select min(id) from outbox)")
        .bind(refused)
        .execute(&house.pool)
        .await
        .unwrap();
    let (shutdown, relay) = house.relay();
    let left = async || (house.waiting().await == 2).then_some(());
    eventually("the other key's event to be published", PATIENCE, left).await;
    assert!(house.metrics.render().contains("outbox_failed_total"));

    sqlx::query("update outbox set topic = 'parcel.shipped'").execute(&house.pool).await.unwrap();
    house.drained().await;
    let delivered = first_deliveries(&house.published());
    assert!(delivered[refused.as_bytes()].contains(&1));
    assert_eq!(delivered[fine.as_bytes()], [1]);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn without_kafka_rows_wait_and_their_age_shows() {
    let house = House::new().await;
    let away = House { settings: Settings::new("127.0.0.1:1", "t-"), ..house };
    away.write(&[shipped("P-1", 1)]).await;
    let (shutdown, relay) = away.relay();
    let depth = async || {
        away.metrics.render().contains("outbox_depth{otel_scope_name=\"outbox\"} 1").then_some(())
    };
    eventually("a depth of one", PATIENCE, depth).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), relay)
        .await
        .expect("it ends though Kafka is away")
        .unwrap();
    assert_eq!(away.waiting().await, 1, "nothing is lost");
}
