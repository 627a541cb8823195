use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use chassis::{Caller, Json, Parts, Peer, Problem, Query};
use envelope::TenantId;
use events::OrderId;
use jobs::EnqueueError;
use serde::{Deserialize, Serialize};

use super::mailer;
use super::store::{self, Email, Wanted};
use super::text::EmailText;
use crate::api::OrderQuery;

/// Builds the routes of e-mails and acknowledgements.
pub(crate) fn routes(parts: &Parts) -> Router {
    Router::new()
        .route("/emails", get(list))
        .route("/acknowledgements", post(acknowledge))
        .with_state(parts.clone())
}

#[derive(Serialize)]
struct Emails {
    emails: Vec<Email>,
}

async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    Query(query): Query<OrderQuery>,
) -> Result<Body<Emails>, Problem> {
    let emails = store::of_order(&parts.pool, &caller.tenant, query.order_id).await?;
    Ok(Body(Emails { emails }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    order_id: OrderId,
    tenant_id: TenantId,
    customer_email: String,
    currency: String,
    total: i64,
}

/// `POST /acknowledgements`: the order service has taken an order. Sent twice, it causes one e-mail.
async fn acknowledge(
    State(parts): State<Parts>,
    peer: Peer,
    Json(acknowledgement): Json<Acknowledgement>,
) -> Result<StatusCode, Problem> {
    peer.require("acknowledge")?;
    let Acknowledgement { order_id, tenant_id, customer_email, currency, total } = acknowledgement;
    mailer::address(&customer_email)
        .map_err(|error| Problem::unprocessable(format!("customer_email: {error}")))?;
    let wanted = Wanted {
        order_id,
        tenant_id: &tenant_id,
        text: EmailText::acknowledgement(order_id, &customer_email, &currency, total),
        message_id: store::acknowledgement_id(order_id),
        cause: peer.cause(),
    };
    let mut tx = parts.pool.begin().await?;
    store::write(&mut tx, &[wanted]).await.map_err(|error| match error {
        EnqueueError::Database(error) => error.into(),
        error => Problem::internal(error),
    })?;
    tx.commit().await?;
    parts.jobs.wake();
    Ok(StatusCode::ACCEPTED)
}
