use events::{InvoiceId, Order, OrderId, TenantId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

/// What the database gave an invoice.
#[derive(sqlx::FromRow)]
pub(crate) struct Issued {
    pub(crate) number: i64,
    pub(crate) issued_at: OffsetDateTime,
}

/// An invoice as a tenant sees it.
#[derive(sqlx::FromRow, Serialize)]
pub(crate) struct Invoice {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) number: i64,
    pub(crate) total: i64,
    pub(crate) currency: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) issued_at: OffsetDateTime,
}

/// Issues the invoice of an order under the tenant's next number. None: it has one already, and no number is used.
pub(crate) async fn issue(
    tx: &mut PgConnection,
    id: InvoiceId,
    order: &Order,
) -> sqlx::Result<Option<Issued>> {
    sqlx::query_as(
        "with counter as (
             insert into invoice_counter as counter (tenant_id, last)
             select $3, 1 where not exists (select from invoices where order_id = $2)
             on conflict (tenant_id) do update set last = counter.last + 1
             returning last
         )
         insert into invoices (id, order_id, tenant_id, number, customer_email, currency, total)
         select $1, $2, $3, last, $4, $5, $6 from counter
         returning number, issued_at",
    )
    .bind(id.0)
    .bind(order.order_id.0)
    .bind(order.tenant_id.as_str())
    .bind(&order.customer_email)
    .bind(&order.currency)
    .bind(order.total)
    .fetch_optional(tx)
    .instrument(query_span("insert invoices"))
    .await
}

/// The invoices of an order, of this tenant: none or one.
pub(crate) async fn of_order(
    pool: &PgPool,
    tenant: &TenantId,
    order: OrderId,
) -> sqlx::Result<Vec<Invoice>> {
    sqlx::query_as(
        "select id, order_id, number, total, currency, issued_at from invoices
         where order_id = $1 and tenant_id = $2",
    )
    .bind(order.0)
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await
}

/// An invoice of this tenant.
pub(crate) async fn find(
    pool: &PgPool,
    tenant: &TenantId,
    id: InvoiceId,
) -> sqlx::Result<Option<Invoice>> {
    sqlx::query_as(
        "select id, order_id, number, total, currency, issued_at from invoices
         where id = $1 and tenant_id = $2",
    )
    .bind(id.0)
    .bind(tenant.as_str())
    .fetch_optional(pool)
    .await
}
