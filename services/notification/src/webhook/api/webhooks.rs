//! Routes that show the state of webhooks, enable them and replace their secrets.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use chassis::{
    Answer, Caller, Cursor, Empty, IdempotencyKey, Page, PageQuery, Path, Problem, Query,
    Submission,
};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::webhook_events::{self, WebhookEvent, WebhookEventType};
use super::super::webhooks::{self, Webhook};
use super::super::{health, secrets};
use super::{WebhookApi, unknown, webhook};
use crate::change;

#[derive(Serialize, ToSchema)]
pub(super) struct Webhooks {
    webhooks: Vec<Webhook>,
    next_cursor: Option<Cursor>,
}

/// Lists webhooks
#[utoipa::path(
    get,
    path = "/webhooks",
    operation_id = "list_webhooks",
    tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "Webhooks, newest first", body = Webhooks)),
)]
pub(super) async fn list(
    State(api): State<WebhookApi>,
    caller: Caller,
    Query(PageQuery { limit, cursor }): Query<PageQuery>,
) -> Result<Body<Webhooks>, Problem> {
    let (pool, below) = (&api.parts.pool, Cursor::below(cursor));
    let webhooks = webhooks::list(pool, &caller.tenant, below, limit.rows()).await?;
    let Page { rows: webhooks, next_cursor } = Page::new(webhooks, limit, |webhook| webhook.id);
    Ok(Body(Webhooks { webhooks, next_cursor }))
}

/// Returns a webhook
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    operation_id = "read_webhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook")),
    responses((status = 200, description = "The webhook", body = Webhook)),
)]
pub(super) async fn show(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Body<Webhook>, Problem> {
    Ok(Body(webhook(&api.parts.pool, &caller, id).await?))
}

#[derive(Serialize, ToSchema)]
#[schema(as = WebhookEvents)]
pub(super) struct Events {
    events: Vec<WebhookEvent>,
    next_cursor: Option<Cursor>,
}

/// Lists the events of a webhook
#[utoipa::path(
    get,
    path = "/webhooks/{id}/events",
    operation_id = "webhook_events",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), PageQuery),
    responses((status = 200, description = "Events, newest first", body = Events)),
)]
pub(super) async fn events(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(PageQuery { limit, cursor }): Query<PageQuery>,
) -> Result<Body<Events>, Problem> {
    let pool = &api.parts.pool;
    let webhook = webhook(pool, &caller, id).await?;
    let below = Cursor::below(cursor);
    let events = webhook_events::list(pool, webhook.id, below, limit.rows()).await?;
    let Page { rows: events, next_cursor } = Page::new(events, limit, |event| event.id);
    Ok(Body(Events { events, next_cursor }))
}

/// Enables a webhook
///
/// Held deliveries stay held until they are repeated.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/enable",
    operation_id = "enable_webhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 200, description = "The webhook", body = Webhook)),
)]
pub(super) async fn enable(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    change::once(&api.parts.pool, &caller, key.as_ref(), async |tx| {
        if !health::enable(tx, &caller.tenant, id).await? {
            return Err(unknown(id));
        }
        Answer::new(StatusCode::OK, &webhook(tx, &caller, id).await?)
    })
    .await
}

/// The new secret. This is the only response that shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the response")]
struct Rotated {
    id: Uuid,
    secret: String,
    #[schema(format = DateTime)]
    previous_valid_until: String,
}

/// Replaces the secret of a webhook
///
/// Deliveries are signed with both secrets until `previous_valid_until`.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/rotate-secret",
    operation_id = "rotate_secret",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 200, description = "The new secret, which no other response shows", body = Rotated)),
)]
pub(super) async fn rotate_secret(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    let secret = signature::new_secret().map_err(Problem::internal)?;
    change::once(&api.parts.pool, &caller, key.as_ref(), async |tx| {
        match secrets::rotate(tx, &caller.tenant, id, &secret, api.rotation).await? {
            secrets::Rotation::Rotated => {}
            secrets::Rotation::UnknownWebhook => return Err(unknown(id)),
            secrets::Rotation::TooMany => {
                return Err(Problem::conflict(
                    "four replaced secrets are still in use; try again when one has expired",
                ));
            }
        }
        webhook_events::insert(tx, id, WebhookEventType::SecretRotated, None).await?;
        let until = (OffsetDateTime::now_utc() + api.rotation).format(&Rfc3339).ok();
        let body = json!({ "id": id, "secret": secret, "previous_valid_until": until });
        Answer::new(StatusCode::OK, &body)
    })
    .await
}
