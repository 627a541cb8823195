use axum::Json;
use axum::extract::State;
use chassis::{Caller, Cursor, Limit, Page, Path, Problem, Query};
use events::{CreditNoteId, InvoiceId, OrderId};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::credit_notes::CreditNote;
use crate::documents::{self, Document};
use crate::store::Invoice;

pub(crate) fn routes(pool: PgPool) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(invoices))
        .routes(routes!(invoice))
        .routes(routes!(credit_notes))
        .routes(routes!(credit_note))
        .with_state(pool)
}

/// Query of both lists.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Returns only documents of this order.
    #[param(value_type = Option<Uuid>)]
    order_id: Option<OrderId>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(inline)]
    cursor: Option<Cursor>,
}

async fn page<D: Document>(
    pool: &PgPool,
    caller: &Caller,
    ListQuery { order_id, limit, cursor }: ListQuery,
) -> Result<Page<D>, Problem> {
    let below = Cursor::below(cursor);
    let rows = documents::list(pool, &caller.tenant, order_id, below, limit.rows()).await?;
    Ok(Page::new(rows, limit, D::id))
}

#[derive(Serialize, ToSchema)]
struct Invoices {
    invoices: Vec<Invoice>,
    next_cursor: Option<Cursor>,
}

/// Lists invoices
#[utoipa::path(
    get,
    path = "/invoices",
    tag = "invoices",
    params(ListQuery),
    responses((status = 200, description = "Invoices, newest first", body = Invoices)),
)]
async fn invoices(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Invoices>, Problem> {
    let Page { rows: invoices, next_cursor } = page(&pool, &caller, query).await?;
    Ok(Json(Invoices { invoices, next_cursor }))
}

/// Returns an invoice
#[utoipa::path(
    get,
    path = "/invoices/{id}",
    tag = "invoices",
    params(("id" = Uuid, Path, description = "Id of the invoice")),
    responses((status = 200, description = "The invoice", body = Invoice)),
)]
async fn invoice(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(id): Path<InvoiceId>,
) -> Result<Json<Invoice>, Problem> {
    let invoice = documents::find(&pool, &caller.tenant, id.0).await?;
    let invoice = invoice.ok_or_else(|| Problem::not_found(format!("there is no invoice {id}")))?;
    Ok(Json(invoice))
}

#[derive(Serialize, ToSchema)]
struct CreditNotes {
    credit_notes: Vec<CreditNote>,
    next_cursor: Option<Cursor>,
}

/// Lists credit notes
#[utoipa::path(
    get,
    path = "/credit-notes",
    tag = "credit notes",
    params(ListQuery),
    responses((status = 200, description = "Credit notes, newest first", body = CreditNotes)),
)]
async fn credit_notes(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<CreditNotes>, Problem> {
    let Page { rows: credit_notes, next_cursor } = page(&pool, &caller, query).await?;
    Ok(Json(CreditNotes { credit_notes, next_cursor }))
}

/// Returns a credit note
#[utoipa::path(
    get,
    path = "/credit-notes/{id}",
    tag = "credit notes",
    params(("id" = Uuid, Path, description = "Id of the credit note")),
    responses((status = 200, description = "The credit note", body = CreditNote)),
)]
async fn credit_note(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(id): Path<CreditNoteId>,
) -> Result<Json<CreditNote>, Problem> {
    let note = documents::find(&pool, &caller.tenant, id.0).await?;
    let note = note.ok_or_else(|| Problem::not_found(format!("there is no credit note {id}")))?;
    Ok(Json(note))
}
