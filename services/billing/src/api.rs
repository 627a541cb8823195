use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chassis::{Caller, Cursor, Limit, Page, Path, Problem, Query};
use events::{CreditNoteId, InvoiceId, OrderId};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::credit_notes::{self, CreditNote};
use crate::store::{self, Invoice};

pub(crate) fn routes(pool: PgPool) -> Router {
    Router::new()
        .route("/invoices", get(invoices))
        .route("/invoices/{id}", get(invoice))
        .route("/credit-notes", get(credit_notes))
        .route("/credit-notes/{id}", get(credit_note))
        .with_state(pool)
}

/// Query of both lists.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    order_id: Option<OrderId>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

#[derive(Serialize)]
struct Invoices {
    invoices: Vec<Invoice>,
    next_cursor: Option<Cursor>,
}

async fn invoices(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Invoices>, Problem> {
    let ListQuery { order_id, limit, cursor } = query;
    let below = Cursor::below(cursor);
    let rows = store::list(&pool, &caller.tenant, order_id, below, limit.rows()).await?;
    let Page { rows: invoices, next_cursor } = Page::new(rows, limit, |invoice| invoice.id);
    Ok(Json(Invoices { invoices, next_cursor }))
}

async fn invoice(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(id): Path<InvoiceId>,
) -> Result<Json<Invoice>, Problem> {
    let invoice = store::find(&pool, &caller.tenant, id).await?;
    let invoice = invoice.ok_or_else(|| Problem::not_found(format!("there is no invoice {id}")))?;
    Ok(Json(invoice))
}

#[derive(Serialize)]
struct CreditNotes {
    credit_notes: Vec<CreditNote>,
    next_cursor: Option<Cursor>,
}

async fn credit_notes(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<CreditNotes>, Problem> {
    let ListQuery { order_id, limit, cursor } = query;
    let below = Cursor::below(cursor);
    let rows = credit_notes::list(&pool, &caller.tenant, order_id, below, limit.rows()).await?;
    let Page { rows: credit_notes, next_cursor } = Page::new(rows, limit, |note| note.id);
    Ok(Json(CreditNotes { credit_notes, next_cursor }))
}

async fn credit_note(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(id): Path<CreditNoteId>,
) -> Result<Json<CreditNote>, Problem> {
    let note = credit_notes::find(&pool, &caller.tenant, id).await?;
    let note = note.ok_or_else(|| Problem::not_found(format!("there is no credit note {id}")))?;
    Ok(Json(note))
}
