use std::borrow::Cow;

use envelope::{Event, Schema, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::OrderId;

/// Status of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// The order can be changed.
    Open,
    /// The order can't be changed any more, but cancelled.
    Completed,
    /// The order can't be changed any more.
    Cancelled,
}

/// A line of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Identifier of the product.
    pub sku: String,
    /// Number of pieces.
    pub quantity: i64,
    /// Price of one piece, in minor units of the order's currency.
    pub unit_price: i64,
}

/// A whole order, which every order event carries (event-carried state transfer): a consumer that
/// receives `completed` before `created` has all data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Id of the order.
    pub order_id: OrderId,
    /// Owner of the order.
    pub tenant_id: TenantId,
    /// Status after this change.
    pub status: OrderStatus,
    /// Recipient of e-mails about the order.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// 1 to 100 lines.
    pub items: Vec<Item>,
    /// Sum over the lines, in minor units.
    pub total: i64,
    /// Time of placement, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Event: an order was placed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderCreated(pub Order);

/// Event: the items or the e-mail address of an open order changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderUpdated(pub Order);

/// Event: an order was completed. It can't be changed any more, but cancelled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderCompleted {
    /// The order after its completion.
    #[serde(flatten)]
    pub order: Order,
    /// Time of completion, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub completed_at: OffsetDateTime,
}

/// Event: an order was cancelled and can't be changed any more. Compensates for [`OrderCompleted`]
/// if it was completed before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// The order after its cancellation.
    #[serde(flatten)]
    pub order: Order,
    /// Time of completion, in UTC. `None` if it was cancelled while it was open.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<OffsetDateTime>,
    /// Time of cancellation, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub cancelled_at: OffsetDateTime,
}

macro_rules! order_event {
    ($name:ident, $event_type:literal, $order:tt, $schema:literal) => {
        impl Event for $name {
            const TYPE: &'static str = $event_type;
            const SCHEMA: &'static Schema = {
                static SCHEMA: Schema = Schema::new(include_str!($schema));
                &SCHEMA
            };

            fn subject(&self) -> Cow<'_, str> {
                self.$order.order_id.to_string().into()
            }

            fn tenant(&self) -> Option<&str> {
                Some(self.$order.tenant_id.as_str())
            }
        }
    };
}

order_event!(OrderCreated, "order.created", 0, "../../../schemas/order.created/1.0.json");
order_event!(OrderUpdated, "order.updated", 0, "../../../schemas/order.updated/1.0.json");
order_event!(OrderCompleted, "order.completed", order, "../../../schemas/order.completed/1.0.json");
order_event!(OrderCancelled, "order.cancelled", order, "../../../schemas/order.cancelled/1.0.json");
