use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envelope::{Cause, CorrelationId, Event, NewEvent, Schema, TopicSpec};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::{Record, Settings, TopicPolicy, Topics};
use outbox::{Prepared, Relay, RelayStatus, RelayWaker};
use sandbox::testing::{TestSpace, eventually};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Application name of relays on the server.
const RELAY: &str = "relay";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: TopicSpec = TopicSpec::new(ParcelShipped::TYPE);
/// A topic that takes little.
pub(crate) const SMALL: TopicSpec = TopicSpec::new("parcel.small").max_record_bytes(20_000);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static SHIPPED: Schema =
    Schema::new(r#"{ "$id": "https://example.com/parcel.shipped/1.0.json", "type": "object" }"#);

#[derive(Serialize, Deserialize)]
struct ParcelShipped {
    parcel: String,
    number: i64,
    note: String,
}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        self.parcel.as_str().into()
    }
}

pub(crate) struct House {
    pub(crate) space: Arc<TestSpace>,
    pub(crate) pool: PgPool,
    pub(crate) settings: Settings,
    pub(crate) wake: RelayWaker,
    pub(crate) metrics: Metrics,
}

impl House {
    pub(crate) async fn new() -> Self {
        let space = Arc::new(TestSpace::new().await);
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        outbox::migrate(&pool).await.unwrap();
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let topics = Topics { owned: vec![TOPIC, SMALL], ..Topics::default() };
        let problems = kafka::ensure(&settings, &topics, TopicPolicy::Create).await.unwrap();
        assert_eq!(problems, []);
        let metrics = Metrics::new("test");
        Self { space, pool, settings, wake: RelayWaker::default(), metrics }
    }

    /// Returns a house with the same Kafka and another database.
    pub(crate) fn beside(&self, pool: PgPool) -> Self {
        let (space, settings) = (Arc::clone(&self.space), self.settings.clone());
        Self { space, pool, settings, wake: RelayWaker::default(), metrics: Metrics::new("test") }
    }

    pub(crate) fn relay(&self) -> (CancellationToken, JoinHandle<()>) {
        let (shutdown, relay, _) = self.relay_with_status();
        (shutdown, relay)
    }

    pub(crate) fn relay_with_status(&self) -> (CancellationToken, JoinHandle<()>, RelayStatus) {
        let database = (*self.pool.connect_options()).clone().application_name(RELAY);
        let meter = self.metrics.meter("outbox");
        let relay = Relay::new(database, self.settings.clone(), self.wake.clone(), &meter);
        let (status, shutdown) = (relay.status(), CancellationToken::new());
        (shutdown.clone(), tokio::spawn(relay.run(shutdown)), status)
    }

    /// Inserts many rows, each with a different key, spread over these shards.
    pub(crate) async fn fill(&self, topic: &str, rows: i32, shards: i16) {
        sqlx::query(
            "insert into outbox (shard, topic, key, headers, payload)
             select n % $3, $1, 'K-' || n, '{}', 'x' from generate_series(1, $2) n",
        )
        .bind(topic)
        .bind(rows)
        .bind(shards)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Waits until the server has ended the sessions of all relays, and so counted what they read.
    pub(crate) async fn sessions_ended(&self) {
        let ended = async || {
            let there = "select exists (select from pg_stat_activity
                where application_name = $1 and datname = current_database())";
            let there: bool =
                sqlx::query_scalar(there).bind(RELAY).fetch_one(&self.pool).await.unwrap();
            (!there).then_some(())
        };
        eventually("the relay's sessions to end", PATIENCE, ended).await;
    }

    /// Returns the number of index entries that scans of the table have read. Unlike
    /// `TestSpace::entries_read`, it leaves the sessions that the tests hold open.
    pub(crate) async fn index_entries_read(&self) -> i64 {
        sqlx::query_scalar(
            "select sum(idx_tup_read)::int8 from pg_stat_user_indexes where relname = 'outbox'",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics.render();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    pub(crate) async fn write(&self, events: &[Prepared]) {
        let mut tx = self.pool.begin().await.unwrap();
        outbox::append(&mut tx, events).await.unwrap();
        tx.commit().await.unwrap();
        self.wake.wake();
    }

    pub(crate) async fn waiting(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outbox").fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn drained(&self) {
        let empty = async || (self.waiting().await == 0).then_some(());
        eventually("an empty outbox", PATIENCE, empty).await;
    }

    /// Returns the number of shards of each relay.
    pub(crate) async fn shards(&self) -> Vec<i64> {
        sqlx::query_scalar(
            "select count(*) from pg_locks where locktype = 'advisory' and objid::int8 < 4294967295
             and database = (select oid from pg_database where datname = current_database())
             group by pid order by 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn shares(&self, wanted: &[i64]) {
        let share = async || (self.shards().await == wanted).then_some(());
        eventually(&format!("shares of {wanted:?}"), PATIENCE, share).await;
    }

    /// Returns all records of the topic, in the order of each partition.
    pub(crate) fn published(&self) -> Vec<Record> {
        self.published_to(&TOPIC)
    }

    pub(crate) fn published_to(&self, spec: &TopicSpec) -> Vec<Record> {
        let consumer: BaseConsumer = self.settings.consumer("reader").create().unwrap();
        let topic = self.settings.prefixed(&spec.name);
        let mut list = TopicPartitionList::new();
        let mut ends = 0;
        for partition in 0..spec.partitions {
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

pub(crate) fn shipped(parcel: &str, number: i64) -> Prepared {
    let cause = Cause {
        traceparent: Some(PARENT.into()),
        tracestate: Some("vendor=1".into()),
        ..Cause::new(CorrelationId::generate())
    };
    let data = ParcelShipped { parcel: parcel.to_owned(), number, note: String::new() };
    outbox::prepare(NewEvent::new("/warehouse", data, cause).version(number)).unwrap()
}

pub(crate) fn number(record: &Record) -> i64 {
    let event = kafka::decode(record).unwrap();
    event.envelope.read::<ParcelShipped>(&event.data).unwrap().number
}

/// Returns the numbers of each key, in the order of their first publication.
pub(crate) fn first_deliveries(records: &[Record]) -> HashMap<Vec<u8>, Vec<i64>> {
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

/// Returns an event with `bytes` bytes of text, without the limit of its topic.
pub(crate) fn sized(parcel: &str, number: i64, bytes: usize) -> Prepared {
    let data = ParcelShipped { parcel: parcel.to_owned(), number, note: "x".repeat(bytes) };
    let event = NewEvent::new("/warehouse", data, Cause::new(CorrelationId::generate()));
    let takes_all = TopicSpec::new("parcel.small").max_record_bytes(usize::MAX);
    outbox::prepare_for(&takes_all, event.version(number)).unwrap()
}

/// Returns the numbers of each key in the order of their records, repeated ones included.
pub(crate) fn all_deliveries(records: &[Record]) -> HashMap<Vec<u8>, Vec<i64>> {
    let mut by_key: HashMap<_, Vec<i64>> = HashMap::new();
    for record in records {
        by_key.entry(record.key.clone().unwrap()).or_default().push(number(record));
    }
    by_key
}
