//! The bodies that the routes take and give.

use axum::http::StatusCode;
use axum::http::header::ETAG;
use chassis::{Answer, Problem};
use envelope::TenantId;
use events::{Item, OrderId, OrderStatus};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::order::{Draft, DraftChange, Order};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    customer_email: String,
    currency: String,
    items: Vec<NewItem>,
    #[serde(default)]
    pub(super) complete: bool,
}

impl NewOrder {
    /// Returns the order as requested, not checked yet.
    pub(super) fn into_draft(self) -> Draft {
        let Self { customer_email, currency, items, complete: _ } = self;
        Draft { customer_email, currency, items: to_items(items) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewItem {
    sku: String,
    quantity: i64,
    unit_price: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderChange {
    #[serde(default, deserialize_with = "not_null")]
    customer_email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    items: Option<Vec<NewItem>>,
}

impl OrderChange {
    /// Returns the change as requested, not checked yet.
    pub(super) fn into_draft(self) -> DraftChange {
        let Self { customer_email, items } = self;
        DraftChange { customer_email, items: items.map(to_items) }
    }
}

/// Refuses `null`, which would neither leave a field as it is nor remove it.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[derive(Serialize)]
struct OrderBody<'a> {
    id: OrderId,
    tenant_id: &'a TenantId,
    version: i64,
    status: OrderStatus,
    total: i64,
    currency: &'a str,
    customer_email: &'a str,
    items: &'a [Item],
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    completed_at: Option<OffsetDateTime>,
}

/// Creates the response that shows an order, with its `ETag`.
pub(super) fn answer(status: StatusCode, order: &Order) -> Result<Answer, Problem> {
    Ok(Answer::new(status, body(order)?).header(&ETAG, super::etag(order)))
}

/// Returns an order as callers see it.
pub(super) fn body(order: &Order) -> Result<Value, Problem> {
    let state = &order.state;
    let body = OrderBody {
        id: state.order_id,
        tenant_id: &state.tenant_id,
        version: order.version,
        status: state.status,
        total: state.total,
        currency: &state.currency,
        customer_email: &state.customer_email,
        items: &state.items,
        created_at: state.created_at,
        completed_at: order.completed_at,
    };
    serde_json::to_value(body).map_err(Problem::internal)
}

fn to_items(items: Vec<NewItem>) -> Vec<Item> {
    let item = |NewItem { sku, quantity, unit_price }| Item { sku, quantity, unit_price };
    items.into_iter().map(item).collect()
}
