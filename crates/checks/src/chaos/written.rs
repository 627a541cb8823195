//! Writes orders to order's tables directly, as that service does.

use envelope::{Cause, CorrelationId, NewEvent, TenantId};
use events::{Item, Order, OrderCompleted, OrderCreated, OrderId, OrderStatus};
use outbox::Prepared;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Error;
use super::load::Placed;
use super::system::System;

/// Maximum number of orders that share a transaction.
const MAX_PER_TRANSACTION: usize = 200;
/// Number of tenants that own the orders. Several, so that rows shared by tenants, and locks taken
/// in turn, are exercised.
const TENANTS: u8 = 50;

/// Writes and commits a number of orders, and returns them.
pub(crate) async fn write_many(system: &System, orders: usize) -> Result<Vec<Placed>, Error> {
    write_many_of(system, orders, 1).await
}

/// Does the same as [`write_many`] with a number of lines in each order.
pub(crate) async fn write_many_of(
    system: &System,
    orders: usize,
    lines: usize,
) -> Result<Vec<Placed>, Error> {
    let mut database = system.database("order").await?;
    let mut written = Vec::with_capacity(orders);
    while written.len() < orders {
        let mut tx = database.begin().await?;
        let ids = write_of(&mut tx, MAX_PER_TRANSACTION.min(orders - written.len()), lines).await?;
        tx.commit().await?;
        written.extend(ids.into_iter().map(|id| Placed { id, completed: true, cancelled: false }));
    }
    database.close().await?;
    Ok(written)
}

/// Writes completed orders, each with its two events.
pub(crate) async fn write(tx: &mut PgConnection, orders: usize) -> Result<Vec<Uuid>, Error> {
    write_of(tx, orders, 1).await
}

async fn write_of(tx: &mut PgConnection, orders: usize, lines: usize) -> Result<Vec<Uuid>, Error> {
    let (mut ids, mut prepared) = (Vec::with_capacity(orders), Vec::with_capacity(2 * orders));
    for _ in 0..orders {
        let open = open_order(lines)?;
        insert(tx, &open).await?;
        ids.push(open.order_id.0);
        prepared.extend(events_of(open)?);
    }
    outbox::append(tx, &prepared).await?;
    Ok(ids)
}

fn open_order(lines: usize) -> Result<Order, Error> {
    // Unique, like the orders that arrive by HTTP.
    let item = || Item { sku: Uuid::new_v4().to_string(), quantity: 2, unit_price: 450 };
    let items: Vec<_> = std::iter::repeat_with(item).take(lines).collect();
    Ok(Order {
        order_id: OrderId::new(),
        tenant_id: TenantId::new(format!("tenant-{}", fastrand::u8(..TENANTS)))?,
        status: OrderStatus::Open,
        customer_email: "ada@example.com".into(),
        currency: "EUR".into(),
        total: items.iter().map(|item| item.quantity * item.unit_price).sum(),
        items,
        created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
    })
}

fn events_of(open: Order) -> Result<[Prepared; 2], Error> {
    let order = Order { status: OrderStatus::Completed, ..open.clone() };
    let completed = OrderCompleted { completed_at: order.created_at, order };
    let cause = || Cause::new(CorrelationId::generate());
    let created = NewEvent::new("/order", OrderCreated(open), cause()).version(1);
    let completed = NewEvent::new("/order", completed, cause()).version(2);
    Ok([outbox::prepare(created)?, outbox::prepare(completed)?])
}

/// Inserts an order in the state after its completion.
async fn insert(tx: &mut PgConnection, order: &Order) -> sqlx::Result<()> {
    sqlx::query(
        "insert into orders (id, tenant_id, version, status, customer_email, currency, items, total,
                             created_at, completed_at)
         values ($1, $2, 2, 'completed', $3, $4, $5, $6, $7, $7)",
    )
    .bind(order.order_id.0)
    .bind(order.tenant_id.as_str())
    .bind(&order.customer_email)
    .bind(&order.currency)
    .bind(Json(&order.items))
    .bind(order.total)
    .bind(order.created_at)
    .execute(tx)
    .await?;
    Ok(())
}
