//! A notification service for one test, with helpers to send events to it and read its state.

use std::ops::Deref;
use std::sync::LazyLock;
use std::time::Duration;

use chassis::RunningService;
use contract::OpenApi;
use envelope::{Cause, CorrelationId, Encoded, Event, NewEvent, TenantId};
use events::{
    CreditNoteId, InvoiceCredited, InvoiceId, InvoiceIssued, OrderCancelled, OrderCompleted,
    OrderId, OrderStatus, SCHEMAS,
};
use notification::{Config, Mail, Retention, Webhooks, app};
use reqwest::Method;
use sandbox::testing::{eventually, statements_wait_for_a_lock};
use serde_json::{Value, json};
use testbed::Testbed;
use uuid::Uuid;

use crate::target::Target;

pub(crate) use testbed::PATIENCE;

/// The document that requests and responses are validated against.
pub(crate) static CONTRACT: LazyLock<OpenApi> =
    LazyLock::new(|| OpenApi::new(include_str!("../../../../schemas/http/notification.json")));

pub(crate) struct House {
    testbed: Testbed,
    /// The database that the service connects to.
    pub(crate) database_url: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) webhooks: Webhooks,
    pub(crate) retention: Retention,
}

impl Deref for House {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.testbed
    }
}

/// A row of `emails`.
#[derive(sqlx::FromRow, Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) sent: bool,
    pub(crate) failed: bool,
}

impl House {
    /// Creates the surroundings without a service.
    pub(crate) async fn empty() -> Self {
        let testbed = Testbed::new().await;
        let database_url = testbed.space.database_url().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let webhooks = Webhooks {
            allow: "".parse().unwrap(),
            retries: [5, 30, 300].map(Duration::from_secs).to_vec(),
            disable_after: Duration::from_hours(120),
            rotation: Duration::from_hours(24),
        };
        let day = Duration::from_hours(24);
        let retention =
            Retention { emails: 90 * day, deliveries: 30 * day, every: Duration::from_mins(10) };
        Self { testbed, database_url, folder, webhooks, retention }
    }

    /// Starts the service, which writes its e-mails into the folder.
    pub(crate) async fn start(&self) -> RunningService {
        self.start_with(None).await
    }

    /// Starts the service, which sends its e-mails to a mail server on this port.
    pub(crate) async fn start_smtp(&self, port: u16) -> RunningService {
        self.start_with(Some(format!("smtp://127.0.0.1:{port}"))).await
    }

    async fn start_with(&self, smtp_url: Option<String>) -> RunningService {
        let chassis = self.chassis_on(&self.database_url).event_senders(
            "sender=/order:order.created+order.updated+order.completed+order.cancelled+invoice.issued+acknowledge,
             events-only=/order:order.completed+track",
        );
        let mail = Mail {
            mail_dir: smtp_url.is_none().then(|| self.folder.path().to_owned()),
            smtp_url: smtp_url.map(|url| url.parse().unwrap()),
            mail_from: "Shop <shop@example.com>".parse().unwrap(),
        };
        let (webhooks, retention) = (self.webhooks.clone(), self.retention.clone());
        app::build(Config { chassis, mail, webhooks, retention }).start().await.unwrap()
    }

    pub(crate) async fn rows(&self) -> Vec<Row> {
        sqlx::query_as(
            "select order_id, kind, attempts, last_error, sent_at is not null as sent,
                    failed_at is not null as failed
             from emails order by order_id, kind",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap_or_default() // The service may not have migrated yet.
    }

    /// Waits until there are that many e-mails and all satisfy the condition.
    pub(crate) async fn until(
        &self,
        what: &str,
        count: usize,
        settled: impl Fn(&Row) -> bool,
    ) -> Vec<Row> {
        eventually(what, PATIENCE, async || {
            let rows = self.rows().await;
            (rows.len() == count && rows.iter().all(&settled)).then_some(rows)
        })
        .await
    }

    /// Waits until there is no job.
    pub(crate) async fn until_no_job(&self) {
        eventually("no job", PATIENCE, async || {
            let jobs: i64 =
                sqlx::query_scalar("select count(*) from job").fetch_one(&self.pool).await.unwrap();
            (jobs == 0).then_some(())
        })
        .await;
    }

    /// Waits until a statement of the service is blocked by a lock of the test.
    pub(crate) async fn until_waiting_for_a_lock(&self) {
        statements_wait_for_a_lock(&self.pool, 1, PATIENCE).await;
    }

    /// Makes the ids of these tables two days older, since an id contains its time.
    pub(crate) async fn two_days_later(&self, tables: &[&str]) {
        for table in tables {
            let later = format!(
                "update {table} set id = (lpad(to_hex(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint
                     - 172800000), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid"
            );
            sqlx::query(sqlx::AssertSqlSafe(later)).execute(&self.pool).await.unwrap();
        }
    }

    /// Keeps customers' data for a day, and deletes expired data often.
    pub(crate) fn keep_a_day(&mut self) {
        self.retention = Retention {
            emails: Duration::from_hours(24),
            deliveries: Duration::from_hours(24),
            every: Duration::from_millis(50),
        };
    }

    pub(crate) fn file(&self, order: &str, kind: &str) -> String {
        let path = self.folder.path().join(format!("{order}-{kind}.eml"));
        std::fs::read_to_string(path).unwrap()
    }
}

/// Returns `order.completed` of a tenant, at version 2.
pub(crate) fn completed(tenant: &str) -> Encoded {
    completed_to(tenant, "ada@example.com")
}

/// Returns `order.completed` for this customer, whose address need not match the schema.
pub(crate) fn completed_to(tenant: &str, customer_email: &str) -> Encoded {
    let file = SCHEMAS.iter().find(|file| file.event_type == OrderCompleted::TYPE).unwrap();
    let mut data: OrderCompleted = serde_json::from_str(file.example).unwrap();
    data.order.order_id = OrderId::new();
    data.order.tenant_id = TenantId::new(tenant).unwrap();
    let mut encoded = NewEvent::new("/order", data, cause()).version(2).encode().unwrap();
    let mut data: Value = serde_json::from_slice(&encoded.data).unwrap();
    data["customer_email"] = customer_email.into();
    encoded.data = serde_json::to_vec(&data).unwrap();
    encoded
}

/// Returns `invoice.issued` for a completed order.
pub(crate) fn invoiced(completed: &Encoded) -> Encoded {
    let OrderCompleted { order, completed_at } = serde_json::from_slice(&completed.data).unwrap();
    let issued = InvoiceIssued {
        invoice_id: InvoiceId::new(),
        order_id: order.order_id,
        tenant_id: order.tenant_id,
        number: 17,
        customer_email: order.customer_email,
        currency: order.currency,
        total: order.total,
        issued_at: completed_at,
    };
    NewEvent::new("/billing", issued, cause()).version(2).encode().unwrap()
}

/// Returns `order.cancelled` for a completed order.
pub(crate) fn cancelled(completed: &Encoded) -> Encoded {
    let OrderCompleted { mut order, completed_at } =
        serde_json::from_slice(&completed.data).unwrap();
    order.status = OrderStatus::Cancelled;
    let cancelled =
        OrderCancelled { order, completed_at: Some(completed_at), cancelled_at: completed_at };
    NewEvent::new("/order", cancelled, cause()).version(3).encode().unwrap()
}

/// Returns `invoice.credited` for an invoice.
pub(crate) fn credited(invoiced: &Encoded) -> Encoded {
    let invoice: InvoiceIssued = serde_json::from_slice(&invoiced.data).unwrap();
    let credited = InvoiceCredited {
        credit_note_id: CreditNoteId::new(),
        number: 3,
        invoice_id: invoice.invoice_id,
        invoice_number: invoice.number,
        order_id: invoice.order_id,
        tenant_id: invoice.tenant_id,
        customer_email: invoice.customer_email,
        currency: invoice.currency,
        total: invoice.total,
        credited_at: invoice.issued_at,
    };
    NewEvent::new("/billing", credited, cause()).version(3).encode().unwrap()
}

fn cause() -> Cause {
    Cause {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..Cause::new(CorrelationId::new("flow-17").unwrap())
    }
}

pub(crate) async fn get(running: &RunningService, path: &str, key: &str) -> (u16, Value) {
    let request =
        reqwest::Client::new().get(format!("http://{}{path}", running.http)).bearer_auth(key);
    let response = CONTRACT.send(request).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Sends a request of `acme` with this body.
pub(crate) async fn ask(
    running: &RunningService,
    method: Method,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, format!("http://{}{path}", running.http));
    let response = CONTRACT.send(request.bearer_auth("demo-acme").json(body)).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Sends a `POST` of `acme` without a body.
pub(crate) async fn post(running: &RunningService, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://{}{path}", running.http));
    let response = CONTRACT.send(request.bearer_auth("demo-acme")).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Starts a service that `configure` has changed, and a target that it may send to.
pub(crate) async fn started_with(
    configure: impl FnOnce(&mut House),
) -> (House, Target, RunningService) {
    let target = Target::start().await;
    let mut house = House::empty().await;
    house.webhooks.allow = target.address.to_string().parse().unwrap();
    configure(&mut house);
    let running = house.start().await;
    (house, target, running)
}

/// Registers a URL for `acme`. Returns the webhook with its secret.
pub(crate) async fn register(running: &RunningService, url: &str) -> Value {
    let (status, webhook) = ask(running, Method::POST, "/webhooks", &json!({ "url": url })).await;
    assert_eq!(status, 201, "{webhook}");
    webhook
}

/// Waits until the order's deliveries of `acme` have this status. Makes retries due at once.
pub(crate) async fn until_delivery(
    house: &House,
    running: &RunningService,
    order: &str,
    status: &str,
) -> Vec<Value> {
    eventually(status, PATIENCE, async || {
        sqlx::query("update job set run_at = now() where failed_at is null and worker is null")
            .execute(&house.pool)
            .await
            .unwrap();
        let deliveries = deliveries(running, &format!("order_id={order}")).await;
        let there = !deliveries.is_empty() && deliveries.iter().all(|it| it["status"] == status);
        there.then_some(deliveries)
    })
    .await
}

/// Returns a page of the deliveries of `acme`.
pub(crate) async fn deliveries(running: &RunningService, query: &str) -> Vec<Value> {
    let (status, body) = get(running, &format!("/deliveries?{query}"), "demo-acme").await;
    assert_eq!(status, 200, "{body}");
    body["deliveries"].as_array().unwrap().clone()
}
