use axum::Router;
use chassis::Parts;
use events::OrderId;
use serde::Deserialize;

use crate::webhook::Guard;
use crate::{email, webhook};

/// Builds the routes of the public API.
pub(crate) fn routes(parts: &Parts, guard: Guard) -> Router {
    email::routes(parts).merge(webhook::routes(parts.pool.clone(), guard))
}

/// Query of the lists by order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderQuery {
    pub(crate) order_id: OrderId,
}
