//! Routes of webhooks and deliveries.

mod deliveries;
mod registration;
mod webhooks;

use std::time::Duration;

use chassis::{Caller, Parts, Problem};
use jobs::EnqueueError;
use sqlx::PgExecutor;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::addresses::Guard;
use super::webhooks::{Webhook, find};

/// State of the routes.
#[derive(Clone)]
pub(crate) struct WebhookApi {
    pub(crate) parts: Parts,
    pub(crate) guard: Guard,
    /// How long a replaced secret keeps signing.
    pub(crate) rotation: Duration,
}

/// Builds the routes of webhooks and deliveries.
pub(crate) fn routes(api: WebhookApi) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(registration::register, webhooks::list))
        .routes(routes!(webhooks::show, registration::unregister))
        .routes(routes!(webhooks::enable))
        .routes(routes!(webhooks::rotate_secret))
        .routes(routes!(webhooks::events))
        .routes(routes!(deliveries::test))
        .routes(routes!(deliveries::redeliver_since))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::redeliver))
        .with_state(api)
}

/// Returns a webhook of the caller. Fails with 404 if there is none.
async fn webhook(
    connection: impl PgExecutor<'_>,
    caller: &Caller,
    id: Uuid,
) -> Result<Webhook, Problem> {
    find(connection, &caller.tenant, id).await?.ok_or_else(|| unknown(id))
}

/// Returns a webhook of the caller. Fails with 404 if there is none, and with 409 if it is
/// disabled.
async fn enabled_webhook(
    connection: impl PgExecutor<'_>,
    caller: &Caller,
    id: Uuid,
) -> Result<Webhook, Problem> {
    let webhook = webhook(connection, caller, id).await?;
    if webhook.status == "enabled" {
        return Ok(webhook);
    }
    let detail = format!("webhook {id} is disabled; POST /webhooks/{id}/enable first");
    Err(Problem::conflict(detail))
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("there is no webhook {id}"))
}

fn not_enqueued(error: EnqueueError) -> Problem {
    match error {
        EnqueueError::Database(error) => error.into(),
        error => Problem::internal(error),
    }
}
