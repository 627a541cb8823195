//! The table `orders`. Changes are written by one statement, alone or in a batch: for each change
//! it writes the order, the answer kept for its `Idempotency-Key` and the events, or nothing. This
//! takes one round trip, and no transaction can stay open.

use std::collections::HashMap;

use chassis::{Answer, IdempotencyKey, IdempotencyRow};
use envelope::TenantId;
use events::{Item, OrderId, OrderStatus};
use futures::TryStreamExt;
use outbox::{Columns, Prepared};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Postgres};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use crate::order::Order;

/// The next version of an order, or its first one, with everything that is written with it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The order after the change.
    pub(crate) order: Order,
    /// `true` for a new order, which has no previous version.
    pub(crate) is_new: bool,
    pub(crate) events: Vec<Prepared>,
    /// The response that is stored for the key.
    pub(crate) answer: Answer,
    pub(crate) key: Option<IdempotencyKey>,
}

/// Approximate size of the columns of a change that are not counted: ids, times, headers.
const SMALL_COLUMNS: usize = 512;

impl Change {
    /// Returns the approximate number of bytes that the change takes in a statement. The order and
    /// the answer are each about as long as an event.
    pub(crate) fn bytes(&self) -> usize {
        let lengths = self.events.iter().map(|event| event.data().len());
        let order = lengths.clone().max().unwrap_or_default();
        let copies = if self.key.is_some() { 2 } else { 1 };
        lengths.sum::<usize>() + copies * order + (self.events.len() + 1) * SMALL_COLUMNS
    }
}

/// Result of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChangeOutcome {
    /// The order, its events and its key are written.
    Written,
    /// Another request changed the order concurrently. Nothing is written.
    Overtaken,
    /// The key already has an answer. Nothing is written.
    KeyTaken,
}

/// How a statement treats locks of other transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Locks {
    /// Waits for them, up to the session's limit.
    Wait,
    /// Skips changes of locked orders. Fails if a key stays locked for longer than [`PATIENCE`].
    Pass,
}

/// How long a batch waits for a key that another transaction has inserted and not committed.
const PATIENCE: &str = "100ms";

/// Writes changes of different orders, with different keys. `$locks` is the locking clause for the
/// order rows.
///
/// Order rows are locked first and keys are inserted next, both in sorted order, so that two such
/// statements can't deadlock. Postgres evaluates a CTE when it is read, so `keyed` reads all of
/// `locked` before it sorts, and inserts the sorted rows. A key that is already used skips only its
/// own change. Events are inserted after the orders, so the statement holds the locks of the orders
/// when the events get their ids.
///
/// An order is looked up by a lateral join, and changed by an upsert, because both use the primary
/// key regardless of the planner's estimate of the size of the table. So does the subquery that
/// distinguishes a locked order from a changed one. The subqueries around the arrays hide their
/// lengths from the planner. Otherwise it plans each execution with a single order separately,
/// which takes twice as long as to execute it.
macro_rules! write_changes {
    ($locks:literal) => {
        concat!(
            "with patience as materialized (
                select set_config('lock_timeout', coalesce($1, current_setting('lock_timeout')), true) as lock_timeout
             ), change as materialized (
                select *
                from unnest((select $2::uuid[]), (select $3::bool[]), (select $4::text[]), (select $5::bigint[]),
                            (select $6::text[]), (select $7::text[]), (select $8::text[]), (select $9::jsonb[]),
                            (select $10::bigint[]), (select $11::timestamptz[]), (select $12::timestamptz[]),
                            (select $13::timestamptz[]), (select $14::text[]), (select $15::bytea[]),
                            (select $16::smallint[]), (select $17::text[]), (select $18::text[]))
                    change (id, is_new, tenant_id, version, status, customer_email, currency,
                            items, total, created_at, completed_at, cancelled_at,
                            key, fingerprint, http_status, headers, body)
             ), locked as materialized (
                select found.id
                from (select id, tenant_id, version from change where not is_new order by id) change
                cross join lateral (
                    select orders.id from orders
                    where orders.id = change.id and orders.tenant_id = change.tenant_id
                      and orders.version = change.version - 1
                    for update ", $locks, "
                ) found
             ), keyed as (
                insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
                select tenant_id, key, fingerprint, http_status, headers::json, body::json
                from change, patience, (select count(*) from locked) all_locked
                where key is not null and (is_new or id in (select id from locked))
                order by tenant_id, key
                on conflict do nothing
                returning tenant_id, key
             ), due as materialized (
                select * from change
                where (is_new or id in (select id from locked))
                  and (key is null or (tenant_id, key) in (select tenant_id, key from keyed))
             ), placed as (
                insert into orders (id, tenant_id, version, status, customer_email, currency, items, total,
                                    created_at, completed_at, cancelled_at)
                select id, tenant_id, version, status, customer_email, currency, items, total,
                       created_at, completed_at, cancelled_at
                from due where is_new
                returning id
             ), changed as (
                insert into orders as before (id, tenant_id, version, status, customer_email, currency, items, total,
                                              created_at, completed_at, cancelled_at)
                select id, tenant_id, version, status, customer_email, currency, items, total,
                       created_at, completed_at, cancelled_at
                from due where not is_new
                on conflict (id) do update
                set version = excluded.version, status = excluded.status, customer_email = excluded.customer_email,
                    items = excluded.items, total = excluded.total, completed_at = excluded.completed_at,
                    cancelled_at = excluded.cancelled_at
                where before.version = excluded.version - 1
                returning id
             ), written as (
                select id from placed union all select id from changed
             ), said as (
                insert into outbox (shard, topic, key, headers, payload)
                select shard, topic, key, headers::json, payload
                from unnest((select $19::uuid[]), (select $20::smallint[]), (select $21::text[]),
                            (select $22::text[]), (select $23::text[]), (select $24::bytea[]))
                    with ordinality event (order_id, shard, topic, key, headers, payload, place)
                where order_id in (select id from written)
                order by place
             )
             select id, id in (select id from written) as written, is_new or id in (select id from locked) as free,
                    case when not is_new and id not in (select id from locked)
                         then version - 1 = (select orders.version from orders
                                             where orders.id = change.id and orders.tenant_id = change.tenant_id)
                    end is true as locked
             from change"
        )
    };
}

/// Result row of one change.
#[derive(FromRow)]
struct Found {
    /// Id of the order.
    id: Uuid,
    written: bool,
    /// `true` if the statement holds the lock of the order, or the order is new.
    free: bool,
    /// `true` if the order has the expected version in the statement's snapshot, but could not be
    /// locked.
    locked: bool,
}

impl Found {
    fn outcome(&self, locks: Locks) -> Option<ChangeOutcome> {
        match self {
            Self { written: true, .. } => Some(ChangeOutcome::Written),
            Self { free: true, .. } => Some(ChangeOutcome::KeyTaken),
            Self { locked: true, .. } if locks == Locks::Pass => None,
            _ => Some(ChangeOutcome::Overtaken),
        }
    }
}

/// Writes changes of different orders, with different keys, in one statement. Returns the outcome
/// of each change. `None` means that nothing is written because another transaction has locked the
/// order, which happens with [`Locks::Pass`] only.
///
/// If the statement fails, no change is written, unless the connection was lost.
pub(crate) async fn write(
    connection: &mut PgConnection,
    changes: &[&Change],
    locks: Locks,
) -> sqlx::Result<Vec<Option<ChangeOutcome>>> {
    let found = statement(changes, locks).fetch_all(connection).await?;
    let found: HashMap<_, _> = found.iter().map(|found| (found.id, found.outcome(locks))).collect();
    let outcome = |change: &&Change| found.get(&change.order.state.order_id.0).copied().flatten();
    Ok(changes.iter().map(outcome).collect())
}

type Statement<'q> = QueryAs<'q, Postgres, Found, PgArguments>;

fn statement<'q>(changes: &[&'q Change], locks: Locks) -> Statement<'q> {
    let (sql, patience) = match locks {
        Locks::Wait => (write_changes!(""), None),
        Locks::Pass => (write_changes!("skip locked"), Some(PATIENCE)),
    };
    let query = sqlx::query_as(sql).bind(patience);
    bind_events(bind_keys(bind_orders(query, changes), changes), changes)
}

/// Binds `$2` to `$13`.
fn bind_orders<'q>(query: Statement<'q>, changes: &[&'q Change]) -> Statement<'q> {
    fn column<'q, T>(changes: &[&'q Change], of: impl Fn(&'q Order) -> T) -> Vec<T> {
        changes.iter().map(|change| of(&change.order)).collect()
    }
    query
        .bind(column(changes, |order| order.state.order_id.0))
        .bind(changes.iter().map(|change| change.is_new).collect::<Vec<_>>())
        .bind(column(changes, |order| order.state.tenant_id.as_str()))
        .bind(column(changes, |order| order.version))
        .bind(column(changes, status))
        .bind(column(changes, |order| order.state.customer_email.as_str()))
        .bind(column(changes, |order| order.state.currency.as_str()))
        .bind(column(changes, |order| Json(&order.state.items)))
        .bind(column(changes, |order| order.state.total))
        .bind(column(changes, |order| order.state.created_at))
        .bind(column(changes, |order| order.completed_at))
        .bind(column(changes, |order| order.cancelled_at))
}

/// Binds `$14` to `$18`.
fn bind_keys<'q>(query: Statement<'q>, changes: &[&'q Change]) -> Statement<'q> {
    fn column<'q, T>(
        rows: &[Option<IdempotencyRow<'q>>],
        of: impl Fn(&IdempotencyRow<'q>) -> T,
    ) -> Vec<Option<T>> {
        rows.iter().map(|row| row.as_ref().map(&of)).collect()
    }
    let row = |change: &&'q Change| {
        let Change { order, answer, key, .. } = *change;
        key.as_ref().map(|key| key.row(&order.state.tenant_id, answer))
    };
    let rows: Vec<Option<IdempotencyRow<'q>>> = changes.iter().map(row).collect();
    let bodies = column(&rows, |row| row.body);
    query
        .bind(column(&rows, |row| row.key))
        .bind(column(&rows, |row| row.fingerprint))
        .bind(column(&rows, |row| row.status))
        .bind(rows.into_iter().map(|row| Some(row?.headers)).collect::<Vec<_>>())
        .bind(bodies)
}

/// Binds `$19` to `$24`.
fn bind_events<'q>(query: Statement<'q>, changes: &[&'q Change]) -> Statement<'q> {
    let of_orders = changes.iter().flat_map(|change| {
        let id = change.order.state.order_id.0;
        change.events.iter().map(move |_| id)
    });
    let events = Columns::of(changes.iter().flat_map(|change| &change.events));
    query
        .bind(of_orders.collect::<Vec<_>>())
        .bind(events.shards)
        .bind(events.topics)
        .bind(events.keys)
        .bind(events.headers)
        .bind(events.payloads)
}

/// Stores the answer of a request that changed nothing.
pub(crate) async fn keep(pool: &PgPool, key: &IdempotencyRow<'_>) -> sqlx::Result<()> {
    key.keep(&mut *pool.acquire().await?).await
}

/// Returns an order of this tenant.
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

/// Passes at most `limit` orders of this tenant, or of one of its customers, with ids below
/// `below`, newest first, to `write` one by one, so that only one is in memory.
pub(crate) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    customer_email: Option<&str>,
    below: Uuid,
    limit: i64,
    mut write: impl FnMut(&Order) -> serde_json::Result<()>,
) -> sqlx::Result<()> {
    // Two statements, so that each page is one range of a matching index.
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

/// A row without the tenant, which the query fixes, and without the status, which follows from
/// `completed_at` and `cancelled_at`: an order with `cancelled_at` is cancelled, whichever release
/// wrote it.
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
