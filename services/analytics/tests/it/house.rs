//! An analytics service of the test's own, and what the test says to it and hears from it.

use std::time::Duration;

use analytics::{Config, app};
use chassis::Running;
use events::{
    Cause, CorrelationId, Encoded, Event, InvoiceIssued, Message, Order, OrderCompleted,
    OrderCreated, OrderId, OrderStatus, OrderUpdated, SCHEMAS, TenantId,
};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Settings, Topic};
use sandbox::testing::{TestSpace, eventually};
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct House {
    pub(crate) space: TestSpace,
    pub(crate) pool: PgPool,
    settings: Settings,
    producer: FutureProducer,
}

impl House {
    /// The surroundings, without the service.
    pub(crate) async fn empty() -> Self {
        let space = TestSpace::new().await;
        let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
        let topics =
            [OrderCreated::TYPE, OrderUpdated::TYPE, OrderCompleted::TYPE, InvoiceIssued::TYPE];
        kafka::ensure(&settings, &topics.map(Topic::event)).await.unwrap();
        let producer = settings.producer().create().unwrap();
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        Self { space, pool, settings, producer }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(|_| {}).await
    }

    /// With whatever is not as it is by default.
    pub(crate) async fn start_with(&self, configure: impl FnOnce(&mut Config)) -> Running {
        let mut config = self.config();
        configure(&mut config);
        app::build(config).start().await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        let space = &self.space;
        Config::new(chassis::Config::for_tests(
            space.database_url(),
            space.kafka_brokers(),
            space.topic_prefix(),
        ))
    }

    /// Sends an event the way a relay does.
    pub(crate) async fn send(&self, event: &Encoded) {
        let headers = kafka::content_headers(&event.envelope);
        let topic = self.settings.prefixed(&event.envelope.event_type);
        let record = FutureRecord::to(&topic)
            .headers(kafka::client_headers(&headers))
            .key(&event.envelope.partition_key)
            .payload(&event.data);
        self.producer.send(record, Timeout::Never).await.unwrap();
    }

    /// Waits until the numbers' subscription has dealt with that many different events.
    pub(crate) async fn heard(&self, count: usize) {
        self.heard_by("analytics", count).await;
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
            (usize::try_from(heard).unwrap() >= count).then_some(())
        })
        .await;
    }
}

/// What happens to one order.
pub(crate) struct Story {
    pub(crate) created: Encoded,
    pub(crate) updated: Encoded,
    pub(crate) completed: Encoded,
}

/// An order that comes to `total` when it is completed, at this time, and came to less before.
pub(crate) fn story(tenant: &str, currency: &str, total: i64, completed_at: &str) -> Story {
    let file = SCHEMAS.iter().find(|file| file.event_type == OrderCompleted::TYPE).unwrap();
    let mut order = serde_json::from_str::<OrderCompleted>(file.example).unwrap().order;
    order.order_id = OrderId::new();
    order.tenant_id = TenantId::new(tenant).unwrap();
    order.currency = currency.into();
    order.status = OrderStatus::Open;
    order.total = total - 2;
    let created = encoded(1, OrderCreated(order.clone()));
    order.total = total - 1;
    let updated = encoded(2, OrderUpdated(order.clone()));
    let order = Order { status: OrderStatus::Completed, total, ..order };
    let completed_at = OffsetDateTime::parse(completed_at, &Rfc3339).unwrap();
    let completed = encoded(3, OrderCompleted { order, completed_at });
    Story { created, updated, completed }
}

fn encoded<E: Event>(version: i64, event: E) -> Encoded {
    let cause =
        Cause { correlation_id: CorrelationId::generate(), causation_id: None, traceparent: None };
    Message::new("/order", version, event, cause).encode().unwrap()
}

pub(crate) async fn text(running: &Running, path: &str, key: &str) -> (u16, String) {
    let request =
        reqwest::Client::new().get(format!("http://{}{path}", running.http)).bearer_auth(key);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(crate) async fn get(running: &Running, path: &str, key: &str) -> (u16, Value) {
    let (status, text) = text(running, path, key).await;
    (status, serde_json::from_str(&text).unwrap())
}
