//! The table `credit_notes`: credits of invoices whose orders were cancelled.

use envelope::TenantId;
use events::{CreditNoteId, OrderId};
use serde::Serialize;
use sqlx::PgConnection;
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::documents::Document;

/// Values assigned to a credit note by the database, and those of its invoice.
#[derive(sqlx::FromRow)]
pub(crate) struct Numbered {
    pub(crate) id: Uuid,
    pub(crate) number: i64,
    pub(crate) invoice_id: Uuid,
    pub(crate) invoice_number: i64,
    pub(crate) customer_email: String,
    pub(crate) currency: String,
    pub(crate) total: i64,
    pub(crate) credited_at: OffsetDateTime,
}

/// A credit note in the public API.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct CreditNote {
    pub(crate) id: Uuid,
    number: i64,
    invoice_id: Uuid,
    invoice_number: i64,
    order_id: Uuid,
    total: i64,
    currency: String,
    #[serde(with = "time::serde::rfc3339")]
    credited_at: OffsetDateTime,
}

impl Document for CreditNote {
    const SELECT: &'static str = "select id, number, invoice_id, invoice_number, order_id, total, currency, credited_at \
         from credit_notes";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// A credit note to issue.
pub(crate) struct Draft<'a> {
    pub(crate) id: CreditNoteId,
    pub(crate) order: OrderId,
    pub(crate) tenant: &'a TenantId,
}

/// Credits the invoices of orders, in the given order, with the next numbers of their tenants.
/// Leaves out an order whose invoice is credited already, and uses no number for it. Later numbers
/// of a tenant are not dated earlier. The caller holds the [counters](crate::store::lock_counters).
pub(crate) async fn credit(
    tx: &mut PgConnection,
    drafts: &[Draft<'_>],
) -> sqlx::Result<Vec<Numbered>> {
    let ids: Vec<_> = drafts.iter().map(|draft| draft.id.0).collect();
    let orders: Vec<_> = drafts.iter().map(|draft| draft.order.0).collect();
    let tenants: Vec<_> = drafts.iter().map(|draft| draft.tenant.as_str()).collect();
    sqlx::query_as(
        // As in `store::issue`, subqueries use the indexes regardless of statistics.
        "with draft as (
             select * from unnest((select $1::uuid[]), (select $2::uuid[]), (select $3::text[]))
                 with ordinality as draft (id, order_id, tenant_id, place)
         ), fresh as (
             select distinct on (order_id)
                    draft.*, invoice.id as invoice_id, invoice.number as invoice_number, customer_email, currency, total
             from draft cross join lateral (
                 select id, number, customer_email, currency, total from invoices
                 where invoices.order_id = draft.order_id and invoices.tenant_id = draft.tenant_id
                 limit 1
             ) as invoice
             where (select true from credit_notes where credit_notes.order_id = draft.order_id) is null
             order by order_id, place
         ), counter as (
             insert into invoice_counter as counter (tenant_id, last, last_credit_note)
             select tenant_id, 0, count(*) from fresh group by tenant_id order by tenant_id
             on conflict (tenant_id) do update
                 set last_credit_note = counter.last_credit_note + excluded.last_credit_note
             returning tenant_id, last_credit_note as last, clock_timestamp() as credited_at
         )
         insert into credit_notes (id, order_id, invoice_id, invoice_number, tenant_id, number, customer_email,
                                   currency, total, credited_at)
         select id, order_id, invoice_id, invoice_number, tenant_id,
                last + 1 - row_number() over (partition by tenant_id order by place desc),
                customer_email, currency, total, credited_at
         from fresh join counter using (tenant_id)
         returning id, number, invoice_id, invoice_number, customer_email, currency, total, credited_at",
    )
    .bind(ids)
    .bind(orders)
    .bind(tenants)
    .fetch_all(tx)
    .instrument(query_span("insert credit_notes"))
    .await
}
