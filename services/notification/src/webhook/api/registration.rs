//! Routes that register and delete webhooks.

use axum::extract::State;
use axum::http::{StatusCode, header};
use chassis::{Answer, Caller, IdempotencyKey, Path, Problem, Submission};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::webhooks::{self, EVENTS, Registration, Webhook};
use super::{WebhookApi, unknown};
use crate::change;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    #[schema(max_length = 2048, example = "https://example.com/hooks")]
    url: String,
    /// Event types. `null` subscribes to all of them.
    #[schema(min_items = 1)]
    events: Option<Vec<String>>,
}

/// A new webhook. This is the only response that shows its secret.
#[derive(Serialize, ToSchema)]
struct Registered {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

/// Registers a webhook
#[utoipa::path(
    post,
    path = "/webhooks",
    operation_id = "register_webhook",
    tag = "webhooks",
    params(IdempotencyKey),
    request_body = NewWebhook,
    responses((status = 201, description = "The webhook with its secret, which no other response shows", body = Registered, headers(("Location" = String, description = "Path of the webhook")))),
)]
pub(super) async fn register(
    State(api): State<WebhookApi>,
    caller: Caller,
    Submission { body: new, key }: Submission<NewWebhook>,
) -> Result<Answer, Problem> {
    let pool = &api.parts.pool;
    // Looked up before the URL is checked, whose name may not resolve any more.
    if let Some(key) = &key
        && let Some(earlier) = key.earlier(pool, &caller.tenant).await?
    {
        return Ok(earlier);
    }
    let events = known(new.events)?;
    let url = webhooks::check(&new.url, &api.guard).await;
    let url = url.map_err(|error| Problem::unprocessable(format!("url: {error}")))?;
    let secret = signature::new_secret().map_err(Problem::internal)?;
    change::once(pool, &caller, key.as_ref(), async |tx| {
        let webhook = match webhooks::insert(tx, &caller.tenant, &url, &events, &secret).await? {
            Registration::Registered(webhook) => webhook,
            Registration::Exists(id) => {
                let detail = format!("url: webhook {id} has this URL; delete that webhook first");
                return Err(Problem::conflict(detail));
            }
            Registration::TooMany => {
                return Err(Problem::conflict("there are 20 webhooks already; delete one"));
            }
        };
        let location = format!("/webhooks/{}", webhook.id);
        let answer = Answer::new(StatusCode::CREATED, &Registered { webhook, secret })?;
        Ok(answer.header(&header::LOCATION, location))
    })
    .await
}

/// Returns the requested event types without duplicates. Fails if one is unknown.
fn known(events: Option<Vec<String>>) -> Result<Vec<String>, Problem> {
    let Some(mut events) = events else { return Ok(EVENTS.map(str::to_owned).to_vec()) };
    if events.is_empty() || events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
        let known = EVENTS.join(", ");
        return Err(Problem::unprocessable(format!("events must list one or more of {known}")));
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

/// Deletes a webhook
#[utoipa::path(
    delete,
    path = "/webhooks/{id}",
    operation_id = "unregister_webhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook")),
    responses((status = 204, description = "The webhook is deleted")),
)]
pub(super) async fn unregister(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    if webhooks::delete(&api.parts.pool, &caller.tenant, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(unknown(id))
}
