//! Statistics of baskets: items per order, and best sellers.

use std::collections::HashSet;

use consumer::Received;
use envelope::TenantId;
use events::{OrderCancelled, OrderCompleted};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use tracing::Instrument;
use utoipa::ToSchema;

/// Quantity of a sku, and its number of orders.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct BestSeller {
    sku: String,
    quantity: i64,
    orders: i64,
}

/// Statistics of baskets.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Baskets {
    orders: i64,
    items: i64,
    items_per_order: f64,
}

/// Inserts the baskets of completed orders, each once, even if its event arrives under several ids.
/// An order may have a sku on several lines.
pub(crate) async fn write(
    tx: &mut PgConnection,
    generation: i32,
    events: &[Received<OrderCompleted>],
) -> sqlx::Result<()> {
    // The primary key rejects rows that exist already. Duplicates within this statement have to be
    // removed here.
    let mut seen = HashSet::new();
    let orders = events.iter().map(|event| &event.data.order);
    let orders: Vec<_> = orders.filter(|order| seen.insert(order.order_id)).collect();
    let lines =
        || orders.iter().flat_map(|order| order.items.iter().map(move |item| (order, item)));
    sqlx::query(
        "insert into basket (generation, order_id, sku, tenant_id, quantity)
         select $1, order_id, sku, tenant_id, least(sum(quantity), 9223372036854775807)::bigint
         from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[]) as line (order_id, sku, tenant_id, quantity)
         group by order_id, sku, tenant_id order by order_id, sku
         on conflict do nothing",
    )
    .bind(generation)
    .bind(lines().map(|(order, _)| order.order_id.0).collect::<Vec<_>>())
    .bind(lines().map(|(_, item)| item.sku.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(order, _)| order.tenant_id.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, item)| item.quantity).collect::<Vec<_>>())
    .execute(tx)
    .instrument(query_span("insert basket"))
    .await?;
    Ok(())
}

/// Marks baskets as cancelled, including those that are not written yet. Only a completed order has
/// a basket.
pub(crate) async fn cancel(
    tx: &mut PgConnection,
    generation: i32,
    events: &[Received<OrderCancelled>],
) -> sqlx::Result<()> {
    let completed = events.iter().filter(|event| event.data.completed_at.is_some());
    sqlx::query(
        "insert into basket_cancelled (generation, order_id)
         select $1, order_id from unnest($2::uuid[]) as cancelled (order_id) order by order_id
         on conflict do nothing",
    )
    .bind(generation)
    .bind(completed.map(|event| event.data.order.order_id.0).collect::<Vec<_>>())
    .execute(tx)
    .instrument(query_span("insert basket_cancelled"))
    .await?;
    Ok(())
}

/// Returns a tenant's best sellers.
pub(crate) async fn best_sellers(
    pool: &PgPool,
    generation: i32,
    tenant: &TenantId,
    limit: i64,
) -> sqlx::Result<Vec<BestSeller>> {
    sqlx::query_as(
        "select sku, least(sum(quantity), 9223372036854775807)::bigint as quantity, count(*) as orders from basket
         where generation = $1 and tenant_id = $2
           and not exists (select from basket_cancelled as cancelled
                           where cancelled.generation = $1 and cancelled.order_id = basket.order_id)
         group by sku order by quantity desc, sku limit $3",
    )
    .bind(generation)
    .bind(tenant.as_str())
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Returns a tenant's basket figures.
pub(crate) async fn baskets(
    pool: &PgPool,
    generation: i32,
    tenant: &TenantId,
) -> sqlx::Result<Baskets> {
    sqlx::query_as(
        "select orders, items, coalesce(items::float8 / nullif(orders, 0), 0) as items_per_order
         from (select count(*) as orders, least(coalesce(sum(items), 0), 9223372036854775807)::bigint as items
               from (select sum(quantity) as items from basket where generation = $1 and tenant_id = $2
                       and not exists (select from basket_cancelled as cancelled
                                       where cancelled.generation = $1 and cancelled.order_id = basket.order_id)
                     group by order_id) as baskets) as sums",
    )
    .bind(generation)
    .bind(tenant.as_str())
    .fetch_one(pool)
    .await
}
