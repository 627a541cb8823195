//! An analytics service for one test, with helpers to send events to it and read its state.

use std::ops::Deref;
use std::sync::LazyLock;

use analytics::{Config, app};
use chassis::RunningService;
use contract::OpenApi;
use envelope::{Cause, CorrelationId, Encoded, Event, NewEvent, TenantId};
use events::{
    Order, OrderCancelled, OrderCompleted, OrderCreated, OrderId, OrderStatus, OrderUpdated,
    SCHEMAS,
};
use serde_json::Value;
use testbed::{Testbed, at};
use time::OffsetDateTime;

pub(crate) use testbed::PATIENCE;

/// The document that requests and responses are validated against.
pub(crate) static CONTRACT: LazyLock<OpenApi> =
    LazyLock::new(|| OpenApi::new(include_str!("../../../../schemas/http/analytics.json")));

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
    /// Creates the surroundings without a service.
    pub(crate) async fn empty() -> Self {
        Self { testbed: Testbed::new().await }
    }

    pub(crate) async fn start(&self) -> RunningService {
        self.start_with(|_| {}).await
    }

    /// Starts the service with a changed configuration.
    pub(crate) async fn start_with(&self, configure: impl FnOnce(&mut Config)) -> RunningService {
        let mut config = self.config();
        configure(&mut config);
        app::build(config).start().await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.chassis().event_senders(
            "sender=/order:order.created+order.updated+order.completed+order.cancelled+invoice.issued+track,
             events-only=/order:order.completed+acknowledge",
        ))
    }

    /// Waits until the subscription of the numbers has processed that many different events.
    pub(crate) async fn wait_for_numbers(&self, count: usize) {
        self.wait_until_consumed("analytics", count).await;
    }
}

/// Posts an event to the service directly.
pub(crate) async fn post_event(running: &RunningService, event: &Encoded) {
    let request = reqwest::Client::new().post(format!("http://{}/events", running.http));
    let request = request.headers(chassis::binary_headers(&event.envelope)).bearer_auth("sender");
    let response = CONTRACT.send(request.body(event.data.clone())).await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
}

/// Returns the number of messages that a group has settled, duplicates included.
pub(crate) async fn settled(running: &RunningService, group: &str) -> usize {
    let metrics = reqwest::get(format!("http://{}/metrics", running.admin)).await.unwrap();
    let (metrics, group) = (metrics.text().await.unwrap(), format!("name=\"{group}\""));
    let lines = metrics.lines().filter(|line| line.starts_with("consumer_settled"));
    let counts = lines.filter(|line| line.contains(&group)).map(|line| line.rsplit(' ').next());
    counts.map(|count| count.unwrap().parse::<usize>().unwrap()).sum()
}

/// The events of one order.
pub(crate) struct Story {
    pub(crate) created: Encoded,
    pub(crate) updated: Encoded,
    pub(crate) completed: Encoded,
    /// A possible next event.
    pub(crate) cancelled: Encoded,
}

/// Returns the events of an order that is completed at this time with this total, after it had a
/// smaller one.
pub(crate) fn story(tenant: &str, currency: &str, total: i64, completed_at: &str) -> Story {
    let mut order = order(tenant, currency);
    order.total = total - 2;
    let created = encoded(1, OrderCreated(order.clone()));
    order.total = total - 1;
    let updated = encoded(2, OrderUpdated(order.clone()));
    let order = Order { status: OrderStatus::Completed, total, ..order };
    let completed_at = at(completed_at);
    let completed = encoded(3, OrderCompleted { order: order.clone(), completed_at });
    let cancelled = encoded(4, cancelled(order, Some(completed_at)));
    Story { created, updated, completed, cancelled }
}

/// Returns the cancellation of an order that is open, or was completed at this time.
pub(crate) fn cancelled(order: Order, completed_at: Option<OffsetDateTime>) -> OrderCancelled {
    let order = Order { status: OrderStatus::Cancelled, ..order };
    OrderCancelled { order, completed_at, cancelled_at: OffsetDateTime::now_utc() }
}

/// Returns a new order.
pub(crate) fn order(tenant: &str, currency: &str) -> Order {
    let file = SCHEMAS.iter().find(|file| file.event_type == OrderCompleted::TYPE).unwrap();
    Order {
        order_id: OrderId::new(),
        tenant_id: TenantId::new(tenant).unwrap(),
        currency: currency.into(),
        status: OrderStatus::Open,
        ..serde_json::from_str::<OrderCompleted>(file.example).unwrap().order
    }
}

pub(crate) fn encoded<E: Event>(version: i64, event: E) -> Encoded {
    let cause = Cause::new(CorrelationId::generate());
    NewEvent::new("/order", event, cause).version(version).encode().unwrap()
}

pub(crate) async fn text(running: &RunningService, path: &str, key: &str) -> (u16, String) {
    let request =
        reqwest::Client::new().get(format!("http://{}{path}", running.http)).bearer_auth(key);
    let response = CONTRACT.send(request).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(crate) async fn get(running: &RunningService, path: &str, key: &str) -> (u16, Value) {
    let (status, text) = text(running, path, key).await;
    (status, serde_json::from_str(&text).unwrap())
}
