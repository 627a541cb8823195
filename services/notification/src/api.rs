use chassis::Parts;
use utoipa_axum::router::OpenApiRouter;

use crate::webhook::WebhookApi;
use crate::{email, webhook};

/// Builds the routes of the public API.
pub(crate) fn routes(parts: &Parts, webhooks: WebhookApi) -> OpenApiRouter {
    email::routes(parts).merge(webhook::routes(webhooks))
}
