//! The table `invoices`, and the counters that number invoices and credit notes.

use events::{InvoiceId, Order};
use serde::Serialize;
use sqlx::PgConnection;
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::documents::Document;

/// Values assigned to an invoice by the database.
#[derive(sqlx::FromRow)]
pub(crate) struct Numbered {
    pub(crate) id: Uuid,
    pub(crate) number: i64,
    pub(crate) issued_at: OffsetDateTime,
}

/// An invoice in the public API.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Invoice {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) number: i64,
    pub(crate) total: i64,
    pub(crate) currency: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) issued_at: OffsetDateTime,
}

impl Document for Invoice {
    const SELECT: &'static str =
        "select id, order_id, number, total, currency, issued_at from invoices";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// Locks the counters of tenants until the transaction ends, in the order of the tenants, so that
/// two transactions can't wait for each other. Later statements see every invoice and credit note
/// that was numbered before. Without the lock, a statement that itself waits for a counter does not
/// see them, and fails if it numbers an order that another transaction has numbered meanwhile.
pub(crate) async fn lock_counters(tx: &mut PgConnection, tenants: &[&str]) -> sqlx::Result<()> {
    // A tenant without a row has no invoices yet. A transaction that loses the race to create the
    // row is retried.
    sqlx::query(
        "select from invoice_counter where tenant_id = any($1) order by tenant_id for update",
    )
    .bind(tenants)
    .execute(tx)
    .instrument(query_span("select invoice_counter"))
    .await?;
    Ok(())
}

/// Issues the invoices of orders, in the given order, with the next numbers of their tenants.
/// Leaves out an order that has an invoice already, and uses no number for it. Those of a tenant
/// have the time at which their counter was changed, so that later numbers are not dated earlier.
pub(crate) async fn issue(
    tx: &mut PgConnection,
    drafts: &[(InvoiceId, &Order)],
) -> sqlx::Result<Vec<Numbered>> {
    let ids: Vec<_> = drafts.iter().map(|(id, _)| id.0).collect();
    let orders: Vec<_> = drafts.iter().map(|(_, order)| order.order_id.0).collect();
    let tenants: Vec<_> = drafts.iter().map(|(_, order)| order.tenant_id.as_str()).collect();
    let emails: Vec<_> = drafts.iter().map(|(_, order)| order.customer_email.as_str()).collect();
    let currencies: Vec<_> = drafts.iter().map(|(_, order)| order.currency.as_str()).collect();
    let totals: Vec<_> = drafts.iter().map(|(_, order)| order.total).collect();
    sqlx::query_as(
        // Counters are locked in the order of their tenants, so that two transactions can't wait
        // for each other. The subquery uses the index even if the plan was made while the table was
        // empty; an anti-join might read the whole table each time, until it is analysed. Those of
        // the arrays hide their lengths, so that Postgres keeps the plan.
        "with draft as (
             select * from unnest((select $1::uuid[]), (select $2::uuid[]), (select $3::text[]), (select $4::text[]),
                                  (select $5::text[]), (select $6::bigint[]))
                 with ordinality as draft (id, order_id, tenant_id, customer_email, currency, total, place)
         ), fresh as (
             select distinct on (order_id) * from draft
             where (select true from invoices where invoices.order_id = draft.order_id) is null
             order by order_id, place
         ), counter as (
             insert into invoice_counter as counter (tenant_id, last)
             select tenant_id, count(*) from fresh group by tenant_id order by tenant_id
             on conflict (tenant_id) do update set last = counter.last + excluded.last
             returning tenant_id, last, clock_timestamp() as issued_at
         )
         insert into invoices (id, order_id, tenant_id, number, customer_email, currency, total, issued_at)
         select id, order_id, tenant_id,
                last + 1 - row_number() over (partition by tenant_id order by place desc),
                customer_email, currency, total, issued_at
         from fresh join counter using (tenant_id)
         returning id, number, issued_at",
    )
    .bind(ids)
    .bind(orders)
    .bind(tenants)
    .bind(emails)
    .bind(currencies)
    .bind(totals)
    .fetch_all(tx)
    .instrument(query_span("insert invoices"))
    .await
}
