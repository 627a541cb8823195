//! A separate billing service for each test, with helpers to send events to it and read its
//! results.

use std::ops::Deref;
use std::sync::LazyLock;
use std::time::Duration;

use billing::{Config, app};
use chassis::RunningService;
use contract::OpenApi;
use envelope::{Cause, CorrelationId, Encoded, NewEvent, TenantId};
use events::{OrderCancelled, OrderCompleted, OrderId, OrderStatus, SCHEMAS};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use kafka::{Headers, Record, Settings};
use sandbox::testing::eventually;
use serde_json::Value;
use testbed::Testbed;

pub(crate) use testbed::PATIENCE;

/// The OpenAPI document that requests and responses are checked against.
pub(crate) static CONTRACT: LazyLock<OpenApi> =
    LazyLock::new(|| OpenApi::new(include_str!("../../../../schemas/http/billing.json")));

pub(crate) struct House {
    testbed: Testbed,
}

impl Deref for House {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.testbed
    }
}

impl House {
    /// Creates the environment without the service.
    pub(crate) async fn empty() -> Self {
        Self { testbed: Testbed::new().await }
    }

    /// Creates the environment of a service that has never run: its topics do not exist yet.
    pub(crate) async fn untouched() -> Self {
        let own = [events::INVOICE_ISSUED, events::INVOICE_CREDITED];
        Self { testbed: Testbed::without(&own).await }
    }

    pub(crate) async fn start(&self) -> RunningService {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, chassis: chassis::Config) -> RunningService {
        app::build(Config { chassis }).start().await.unwrap()
    }

    pub(crate) fn config(&self) -> chassis::Config {
        self.chassis().event_senders(
            "sender=/order:order.created+order.updated+order.completed+order.cancelled+order.archived",
        )
    }

    /// Publishes a record to the topic `order.completed`. Returns its partition and offset.
    pub(crate) async fn send_raw(
        &self,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: &Headers,
    ) -> (i32, i64) {
        self.send_record("order.completed", key.as_deref(), value.as_deref(), headers).await
    }

    /// Waits until a topic has that many records, and returns them.
    pub(crate) async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        self.records_until(topic, move |records| records.len() >= count).await
    }

    /// Reads a topic from its beginning until `enough` returns `true`.
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

    /// Returns order, tenant and number of each credit note, and the number of its invoice.
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

    pub(crate) async fn invoiced(&self, count: usize) -> Vec<(uuid::Uuid, String, i64)> {
        let what = format!("{count} invoices");
        eventually(&what, PATIENCE, async || {
            Some(self.invoices().await).filter(|i| i.len() == count)
        })
        .await
    }

    /// Returns `true` if no document of a tenant has an earlier time than one with a lower number.
    pub(crate) async fn is_dated_in_order(&self, table: &str, time: &str) -> bool {
        let query = format!(
            "select bool_and({time} >= before) from (
                 select {time}, lag({time}, 1, {time}) over (partition by tenant_id order by number) as before
                 from {table}) as dated",
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap()
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

/// Returns a completed order of a tenant, at version 2.
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

/// Returns the cancellation of a completed order, at version 3.
pub(crate) fn cancelled(completed: &Encoded) -> Encoded {
    cancelled_with(completed, |_| {})
}

/// Returns the cancellation of an order that was never completed, at version 2.
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
