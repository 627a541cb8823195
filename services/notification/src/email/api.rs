use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::{Caller, Cursor, Json, Limit, Page, Parts, Peer, Problem, Query};
use envelope::TenantId;
use events::OrderId;
use iso_currency::Currency;
use jobs::EnqueueError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::mailer;
use super::store::{self, Email, EmailStatus, Filter, Wanted};
use super::text::{EmailKind, EmailText};

/// Builds the routes of e-mails and acknowledgements.
pub(crate) fn routes(parts: &Parts) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(acknowledge))
        .with_state(parts.clone())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Returns only e-mails of this order.
    #[param(value_type = Option<Uuid>)]
    order_id: Option<OrderId>,
    /// Returns only e-mails of this kind.
    #[param(inline)]
    kind: Option<EmailKind>,
    /// Returns only e-mails with this status.
    #[param(inline)]
    status: Option<EmailStatus>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(inline)]
    cursor: Option<Cursor>,
}

#[derive(Serialize, ToSchema)]
struct Emails {
    emails: Vec<Email>,
    next_cursor: Option<Cursor>,
}

/// Lists e-mails
#[utoipa::path(
    get,
    path = "/emails",
    operation_id = "list_emails",
    tag = "e-mails",
    params(ListQuery),
    responses((status = 200, description = "E-mails, newest first", body = Emails)),
)]
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    tenant_id: TenantId,
    #[schema(format = Email)]
    customer_email: String,
    /// ISO 4217 code.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    total: i64,
}

/// Acknowledges an order
///
/// Called by the order service. Repeating the call sends no second e-mail.
#[utoipa::path(
    post,
    path = "/acknowledgements",
    operation_id = "acknowledge",
    tag = "e-mails",
    request_body = Acknowledgement,
    responses((status = 202, description = "The e-mail is enqueued")),
    security(("service" = [])),
)]
async fn acknowledge(
    State(parts): State<Parts>,
    peer: Peer,
    Json(acknowledgement): Json<Acknowledgement>,
) -> Result<StatusCode, Problem> {
    peer.require("acknowledge")?;
    let Acknowledgement { order_id, tenant_id, customer_email, currency, total } = acknowledgement;
    mailer::address(&customer_email)
        .map_err(|error| Problem::unprocessable(format!("customer_email: {error}")))?;
    if Currency::from_code(&currency).is_none_or(|known| known.code() != currency) {
        let rule = "currency must be an ISO 4217 code in capital letters, such as EUR";
        return Err(Problem::unprocessable(rule));
    }
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
