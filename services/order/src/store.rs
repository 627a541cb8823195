//! The table `orders`. Every change is one statement: it writes the order, the answer kept for its
//! `Idempotency-Key` and the events, or none of them. One round trip, and no transaction that could stay open.

use chassis::IdempotencyRow;
use envelope::TenantId;
use events::{Item, OrderId, OrderStatus};
use futures::TryStreamExt;
use outbox::{Columns, Prepared};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use crate::order::Order;

/// `$written` writes the order, from `$12` on, and returns a row if it did; then the rest is written too.
///
/// The events are written after the order, because they wait for its row: so who writes them holds the lock of
/// the order when they get their ids. A key that is taken fails the whole statement.
macro_rules! with_key_and_events {
    ($written:literal) => {
        concat!(
            "with written as (",
            $written,
            " returning id),
             keyed as (
                insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
                select $1::text, $2::text, $3::bytea, $4::smallint, $5::json, $6::json
                where $2::text is not null and exists (select from written)
             ),
             said as (
                insert into outbox (shard, topic, key, headers, payload)
                select event.*
                from unnest($7::smallint[], $8::text[], $9::text[], $10::json[], $11::bytea[]) event
                where exists (select from written)
             )
             select exists (select from written)"
        )
    };
}

type Statement<'q> = QueryScalar<'q, Postgres, bool, PgArguments>;

/// Binds `$1` to `$11`.
fn statement<'q>(
    sql: &'static str,
    key: Option<&IdempotencyRow<'q>>,
    events: &'q [Prepared],
) -> Statement<'q> {
    let events = Columns::of(events);
    sqlx::query_scalar(sql)
        .bind(key.map(|key| key.tenant_id))
        .bind(key.map(|key| key.key))
        .bind(key.map(|key| key.fingerprint))
        .bind(key.map(|key| key.status))
        .bind(key.map(|key| Json(key.headers.0)))
        .bind(key.map(|key| Json(key.body.0)))
        .bind(events.shards)
        .bind(events.topics)
        .bind(events.keys)
        .bind(events.headers)
        .bind(events.payloads)
}

/// Writes a new order.
pub(crate) async fn insert(
    pool: &PgPool,
    order: &Order,
    key: Option<&IdempotencyRow<'_>>,
    events: &[Prepared],
) -> sqlx::Result<()> {
    const INSERT: &str = with_key_and_events!(
        "insert into orders (id, tenant_id, version, status, customer_email, currency, items, total,
                             created_at, completed_at)
         values ($12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
    );
    let state = &order.state;
    statement(INSERT, key, events)
        .bind(state.order_id.0)
        .bind(state.tenant_id.as_str())
        .bind(order.version)
        .bind(status(order))
        .bind(&state.customer_email)
        .bind(&state.currency)
        .bind(Json(&state.items))
        .bind(state.total)
        .bind(state.created_at)
        .bind(order.completed_at)
        .fetch_one(pool)
        .instrument(query_span("insert orders"))
        .await?;
    Ok(())
}

/// Writes the next version of an order. False: somebody else did meanwhile, and nothing is written.
pub(crate) async fn replace(
    pool: &PgPool,
    order: &Order,
    key: Option<&IdempotencyRow<'_>>,
    events: &[Prepared],
) -> sqlx::Result<bool> {
    const REPLACE: &str = with_key_and_events!(
        "update orders
         set version = $14, status = $15, customer_email = $16, items = $17, total = $18, completed_at = $19,
             cancelled_at = $20
         where id = $12 and tenant_id = $13 and version = $14 - 1"
    );
    let state = &order.state;
    statement(REPLACE, key, events)
        .bind(state.order_id.0)
        .bind(state.tenant_id.as_str())
        .bind(order.version)
        .bind(status(order))
        .bind(&state.customer_email)
        .bind(Json(&state.items))
        .bind(state.total)
        .bind(order.completed_at)
        .bind(order.cancelled_at)
        .fetch_one(pool)
        .instrument(query_span("update orders"))
        .await
}

/// Keeps the answer of a request that changed nothing.
pub(crate) async fn keep(pool: &PgPool, key: &IdempotencyRow<'_>) -> sqlx::Result<()> {
    key.keep(&mut *pool.acquire().await?).await
}

/// An order of this tenant.
pub(crate) async fn find(
    pool: &PgPool,
    tenant: &TenantId,
    id: OrderId,
) -> sqlx::Result<Option<Order>> {
    let row: Option<Row> = sqlx::query_as(
        "select id, version, customer_email, currency, items, total, created_at, completed_at, cancelled_at
         from orders where id = $1 and tenant_id = $2",
    )
    .bind(id.0)
    .bind(tenant.as_str())
    .fetch_optional(pool)
    .instrument(query_span("select orders"))
    .await?;
    Ok(row.map(|row| row.into_order(tenant)))
}

/// Passes at most `limit` orders of this tenant, or of one of its customers, with ids below one, newest first, to `write` one
/// by one, so that no more than one is in memory.
pub(crate) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    customer_email: Option<&str>,
    below: Uuid,
    limit: i64,
    mut write: impl FnMut(&Order) -> serde_json::Result<()>,
) -> sqlx::Result<()> {
    // Two statements, so that each page is a range of the index that fits it.
    let query = match customer_email {
        None => sqlx::query_as::<_, Row>(
            "select id, version, customer_email, currency, items, total, created_at, completed_at, cancelled_at
             from orders where tenant_id = $1 and id < $2 order by id desc limit $3",
        ),
        Some(_) => sqlx::query_as(
            "select id, version, customer_email, currency, items, total, created_at, completed_at, cancelled_at
             from orders where tenant_id = $1 and id < $2 and customer_email = $4 order by id desc limit $3",
        ),
    };
    let query = query.bind(tenant.as_str()).bind(below).bind(limit);
    let query = match customer_email {
        None => query,
        Some(customer) => query.bind(customer),
    };
    let reading = async {
        let mut rows = query.fetch(pool);
        while let Some(row) = rows.try_next().await? {
            write(&row.into_order(tenant)).map_err(|error| sqlx::Error::Encode(error.into()))?;
        }
        Ok(())
    };
    reading.instrument(query_span("select orders")).await
}

/// A row, without its tenant, which was asked for, and its status, which follows from `completed_at` and
/// `cancelled_at`: an order that was cancelled is cancelled, whichever release wrote it.
#[derive(FromRow)]
struct Row {
    id: Uuid,
    version: i64,
    customer_email: String,
    currency: String,
    items: Json<Vec<Item>>,
    total: i64,
    created_at: OffsetDateTime,
    completed_at: Option<OffsetDateTime>,
    cancelled_at: Option<OffsetDateTime>,
}

impl Row {
    fn into_order(self, tenant: &TenantId) -> Order {
        let status = match (self.completed_at, self.cancelled_at) {
            (_, Some(_)) => OrderStatus::Cancelled,
            (Some(_), None) => OrderStatus::Completed,
            (None, None) => OrderStatus::Open,
        };
        let state = events::Order {
            order_id: OrderId(self.id),
            tenant_id: tenant.clone(),
            status,
            customer_email: self.customer_email,
            currency: self.currency,
            items: self.items.0,
            total: self.total,
            created_at: self.created_at,
        };
        let Self { version, completed_at, cancelled_at, .. } = self;
        Order { state, version, completed_at, cancelled_at }
    }
}

fn status(order: &Order) -> &'static str {
    match order.state.status {
        OrderStatus::Open => "open",
        OrderStatus::Completed => "completed",
        OrderStatus::Cancelled => "cancelled",
    }
}
