use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chassis::{Caller, Problem, Query};
use events::OrderId;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::store::{self, Email};

pub(crate) fn routes(pool: PgPool) -> Router {
    Router::new().route("/emails", get(of_order)).with_state(pool)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfOrder {
    order_id: OrderId,
}

#[derive(Serialize)]
struct Emails {
    emails: Vec<Email>,
}

async fn of_order(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(query): Query<OfOrder>,
) -> Result<Json<Emails>, Problem> {
    let emails = store::of_order(&pool, &caller.tenant, query.order_id).await?;
    Ok(Json(Emails { emails }))
}
