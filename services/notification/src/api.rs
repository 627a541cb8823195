use axum::Router;
use chassis::Parts;

use crate::webhook::WebhookApi;
use crate::{email, webhook};

/// Builds the routes of the public API.
pub(crate) fn routes(parts: &Parts, webhooks: WebhookApi) -> Router {
    email::routes(parts).merge(webhook::routes(webhooks))
}
