use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use chassis::{Caller, Cursor, Json, Limit, Page, Parts, Peer, Problem, Query};
use envelope::TenantId;
use events::OrderId;
use jobs::EnqueueError;
use serde::{Deserialize, Serialize};

use super::mailer;
use super::store::{self, Email, EmailStatus, Filter, Wanted};
use super::text::{EmailKind, EmailText};

/// Builds the routes of e-mails and acknowledgements.
pub(crate) fn routes(parts: &Parts) -> Router {
    Router::new()
        .route("/emails", get(list))
        .route("/acknowledgements", post(acknowledge))
        .with_state(parts.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    order_id: Option<OrderId>,
    kind: Option<EmailKind>,
    status: Option<EmailStatus>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

#[derive(Serialize)]
struct Emails {
    emails: Vec<Email>,
    next_cursor: Option<Cursor>,
}

async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Body<Emails>, Problem> {
    let ListQuery { order_id, kind, status, limit, cursor } = query;
    let (filter, below) = (Filter { order_id, kind, status }, Cursor::below(cursor));
    let emails = store::list(&parts.pool, &caller.tenant, &filter, below, limit.rows()).await?;
    let Page { rows: emails, next_cursor } = Page::new(emails, limit, |email| email.id);
    Ok(Body(Emails { emails, next_cursor }))
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
