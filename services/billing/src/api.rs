use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chassis::{Caller, Path, Problem, Query};
use events::{InvoiceId, OrderId};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::store::{self, Invoice};

pub(crate) fn routes(pool: PgPool) -> Router {
    Router::new()
        .route("/invoices", get(of_order))
        .route("/invoices/{id}", get(find))
        .with_state(pool)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfOrder {
    order_id: OrderId,
}

#[derive(Serialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

async fn of_order(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<OfOrder>,
) -> Result<Json<Invoices>, Problem> {
    let invoices = store::of_order(&pool, &caller.tenant, query.order_id).await?;
    Ok(Json(Invoices { invoices }))
}

async fn find(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(id): Path<InvoiceId>,
) -> Result<Json<Invoice>, Problem> {
    let invoice = store::find(&pool, &caller.tenant, id).await?;
    let invoice = invoice.ok_or_else(|| Problem::not_found(format!("there is no invoice {id}")))?;
    Ok(Json(invoice))
}
