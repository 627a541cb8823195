use std::time::Duration;

use envelope::{Encoded, TopicSpec};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Headers, Settings, TopicPolicy, Topics};
use sandbox::testing::{TestSpace, eventually};
use sqlx::PgPool;

/// Time limit of a wait for something that will happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The environment of a service under test: database, Kafka and topics.
pub struct Testbed {
    /// Databases and topic names that no other test uses.
    pub space: TestSpace,
    /// Settings of Kafka clients, with the prefix of this test.
    pub settings: Settings,
    /// Connections to the service's database.
    pub pool: PgPool,
    producer: FutureProducer,
}

impl Testbed {
    /// Creates an empty database and the topics of all events.
    ///
    /// # Panics
    /// If the test was not started by `sandbox run`, or its servers don't answer.
    pub async fn new() -> Self {
        Self::without(&[]).await
    }

    /// Creates an empty database and the topics of all events except `own`, which the service
    /// creates.
    ///
    /// # Panics
    /// As [`Testbed::new`].
    pub async fn without(own: &[TopicSpec]) -> Self {
        let space = TestSpace::new().await;
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let is_others = |topic: &TopicSpec| !own.iter().any(|it| it.name == topic.name);
        let owned = events::all_topics().into_iter().filter(is_others).collect();
        let topics = Topics { owned, ..Topics::default() };
        kafka::ensure(&settings, &topics, TopicPolicy::Create).await.expect("topics");
        let producer = settings.producer().create().expect("a producer");
        let pool = PgPool::connect(space.database_url()).await.expect("a database");
        Self { space, settings, pool, producer }
    }

    /// Returns a configuration for this database, these topics and free ports.
    pub fn chassis(&self) -> chassis::Config {
        self.chassis_on(self.space.database_url())
    }

    /// Returns a configuration for another database URL, such as that of a pooler.
    pub fn chassis_on(&self, database_url: &str) -> chassis::Config {
        let space = &self.space;
        chassis::Config::for_tests(database_url, space.kafka_brokers(), space.topic_prefix())
    }

    /// Publishes an event as a relay does. Returns its partition and offset.
    ///
    /// # Panics
    /// If Kafka refuses it.
    pub async fn send(&self, event: &Encoded) -> (i32, i64) {
        let headers = kafka::content_headers(&event.envelope);
        let (key, value) = (event.key().as_bytes(), &*event.data);
        self.send_record(&event.envelope.event_type, Some(key), Some(value), &headers).await
    }

    /// Publishes an arbitrary record to the topic of this name in the test's space. Returns its
    /// partition and offset.
    ///
    /// # Panics
    /// If Kafka refuses it.
    pub async fn send_record(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> (i32, i64) {
        let topic = self.settings.prefixed(topic);
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&topic).headers(kafka::client_headers(headers));
        (record.key, record.payload) = (key, value);
        let sent = self.producer.send(record, Timeout::Never).await.expect("a record is taken");
        (sent.partition, sent.offset)
    }

    /// Waits until a subscription has processed a number of different events: rows of its inbox.
    ///
    /// # Panics
    /// If that takes longer than [`PATIENCE`].
    pub async fn wait_until_consumed(&self, group: &str, count: usize) {
        let what = format!("{count} events in the inbox of {group}");
        eventually(&what, PATIENCE, async || {
            let consumed: i64 =
                sqlx::query_scalar("select count(*) from inbox where subscription = $1")
                    .bind(group)
                    .fetch_one(&self.pool)
                    .await
                    .unwrap_or_default(); // the service may not have migrated yet
            usize::try_from(consumed).is_ok_and(|consumed| consumed >= count).then_some(())
        })
        .await;
    }
}
