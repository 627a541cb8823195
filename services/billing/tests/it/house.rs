//! A billing service of the test's own, and what the test says to it and hears from it.

use std::sync::LazyLock;
use std::time::Duration;

use billing::{Config, app};
use chassis::RunningService;
use contract::OpenApi;
use envelope::{Cause, CorrelationId, Encoded, NewEvent, TenantId};
use events::{OrderCancelled, OrderCompleted, OrderId, OrderStatus, SCHEMAS};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::rdkafka::util::Timeout;
use kafka::{Headers, Record, Settings, TopicPolicy, Topics};
use sandbox::testing::{TestSpace, eventually};
use serde_json::Value;
use sqlx::PgPool;

/// The document that requests and responses are checked against.
pub(crate) static CONTRACT: LazyLock<OpenApi> =
    LazyLock::new(|| OpenApi::new(include_str!("../../../../schemas/http/billing.json")));

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct House {
    pub(crate) space: TestSpace,
    pub(crate) settings: Settings,
    pub(crate) pool: PgPool,
    producer: FutureProducer,
}

impl House {
    /// The surroundings, without the service.
    pub(crate) async fn empty() -> Self {
        let space = TestSpace::new().await;
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let topics = Topics {
            owned: vec![events::ORDER_COMPLETED, events::ORDER_CANCELLED],
            ..Topics::default()
        };
        kafka::ensure(&settings, &topics, TopicPolicy::Create).await.unwrap();
        let producer = settings.producer().create().unwrap();
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        Self { space, settings, pool, producer }
    }

    pub(crate) async fn start(&self) -> RunningService {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, chassis: chassis::Config) -> RunningService {
        app::build(Config { chassis }).start().await.unwrap()
    }

    pub(crate) fn config(&self) -> chassis::Config {
        let space = &self.space;
        chassis::Config::for_tests(
            space.database_url(),
            space.kafka_brokers(),
            space.topic_prefix(),
        )
        .event_senders(
            "sender=/order:order.created+order.updated+order.completed+order.cancelled+invoice.issued",
        )
    }

    /// Sends an event the way order's relay does. Gives where it lies.
    pub(crate) async fn send(&self, event: &Encoded) -> (i32, i64) {
        let headers = kafka::content_headers(&event.envelope);
        let (key, value) = (event.key().as_bytes().to_vec(), event.data.clone());
        self.send_to(&event.envelope.event_type, Some(key), Some(value), &headers).await
    }

    pub(crate) async fn send_raw(
        &self,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: &Headers,
    ) -> (i32, i64) {
        self.send_to("order.completed", key, value, headers).await
    }

    async fn send_to(
        &self,
        topic: &str,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: &Headers,
    ) -> (i32, i64) {
        let topic = self.settings.prefixed(topic);
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&topic).headers(kafka::client_headers(headers));
        record.key = key.as_deref();
        record.payload = value.as_deref();
        let sent = self.producer.send(record, Timeout::Never).await.unwrap();
        (sent.partition, sent.offset)
    }

    /// Waits until a topic holds that many records, and gives them.
    pub(crate) async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        self.records_until(topic, move |records| records.len() >= count).await
    }

    /// Reads a topic from its beginning until it has been enough.
    pub(crate) async fn records_until(
        &self,
        topic: &str,
        enough: impl Fn(&[Record]) -> bool + Send + 'static,
    ) -> Vec<Record> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&settings, &topic, enough)).await.unwrap()
    }

    pub(crate) async fn invoices(&self) -> Vec<(uuid::Uuid, String, i64)> {
        sqlx::query_as(
            "select order_id, tenant_id, number from invoices order by tenant_id, number",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap_or_default() // the service may not have migrated yet
    }

    /// Order, tenant and number of each credit note, and the number of its invoice.
    pub(crate) async fn credit_notes(&self) -> Vec<(uuid::Uuid, String, i64, i64)> {
        sqlx::query_as(
            "select order_id, tenant_id, number, invoice_number from credit_notes order by tenant_id, number",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap_or_default() // the service may not have migrated yet
    }

    pub(crate) async fn credited(&self, count: usize) -> Vec<(uuid::Uuid, String, i64, i64)> {
        let what = format!("{count} credit notes");
        eventually(&what, PATIENCE, async || {
            Some(self.credit_notes().await).filter(|notes| notes.len() == count)
        })
        .await
    }

    /// Waits until a subscription has dealt with that many different events.
    pub(crate) async fn heard_by(&self, group: &str, count: usize) {
        let what = format!("{count} events in the inbox of {group}");
        eventually(&what, PATIENCE, async || {
            let heard: i64 =
                sqlx::query_scalar("select count(*) from inbox where subscription = $1")
                    .bind(group)
                    .fetch_one(&self.pool)
                    .await
                    .unwrap_or_default(); // the service may not have migrated yet
            (usize::try_from(heard).unwrap() == count).then_some(())
        })
        .await;
    }

    pub(crate) async fn invoiced(&self, count: usize) -> Vec<(uuid::Uuid, String, i64)> {
        let what = format!("{count} invoices");
        eventually(&what, PATIENCE, async || {
            Some(self.invoices().await).filter(|i| i.len() == count)
        })
        .await
    }
}

fn read(settings: &Settings, topic: &str, enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    let consumer: BaseConsumer = settings.consumer("reader").create().unwrap();
    let topic = settings.prefixed(topic);
    let deadline = std::time::Instant::now() + PATIENCE;
    let partitions = loop {
        assert!(std::time::Instant::now() < deadline, "no topic {topic}");
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(5));
        match metadata.as_ref().map(|metadata| metadata.topics()[0].partitions().len()) {
            Ok(partitions) if partitions > 0 => break i32::try_from(partitions).unwrap(),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    drop(list);
    let mut records = Vec::new();
    while !enough(&records) {
        assert!(std::time::Instant::now() < deadline, "{topic} has only {} records", records.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            records.push(Record::from_message(&message));
        }
    }
    records
}

/// A completed order of a tenant, told at version 2.
pub(crate) fn completed(tenant: &str) -> Encoded {
    completed_with(tenant, |_| {})
}

pub(crate) fn completed_with(tenant: &str, change: impl FnOnce(&mut OrderCompleted)) -> Encoded {
    let file = SCHEMAS.iter().find(|file| file.event_type == "order.completed").unwrap();
    let mut data: OrderCompleted = serde_json::from_str(file.example).unwrap();
    data.order.order_id = OrderId::new();
    data.order.tenant_id = TenantId::new(tenant).unwrap();
    change(&mut data);
    let cause = Cause {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..Cause::new(CorrelationId::new("flow-17").unwrap())
    };
    NewEvent::new("/order", data, cause).version(2).encode().unwrap()
}

/// The cancellation of a completed order, told at version 3.
pub(crate) fn cancelled(completed: &Encoded) -> Encoded {
    cancelled_with(completed, |_| {})
}

/// The cancellation of an order that was never completed, told at version 2.
pub(crate) fn cancelled_while_open(tenant: &str) -> Encoded {
    let mut event = cancelled_with(&completed(tenant), |data| data.completed_at = None);
    event.envelope.version = Some(2);
    event
}

pub(crate) fn cancelled_with(
    completed: &Encoded,
    change: impl FnOnce(&mut OrderCancelled),
) -> Encoded {
    let OrderCompleted { mut order, completed_at } =
        serde_json::from_slice(&completed.data).unwrap();
    order.status = OrderStatus::Cancelled;
    let (completed_at, cancelled_at) = (Some(completed_at), completed_at + Duration::from_hours(1));
    let mut data = OrderCancelled { order, completed_at, cancelled_at };
    change(&mut data);
    let cause = Cause::new(CorrelationId::new("flow-18").unwrap());
    NewEvent::new("/order", data, cause).version(3).encode().unwrap()
}

pub(crate) async fn get(running: &RunningService, path: &str, key: &str) -> (u16, Value) {
    let request =
        reqwest::Client::new().get(format!("http://{}{path}", running.http)).bearer_auth(key);
    let response = CONTRACT.send(request).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}
