use std::borrow::Cow;

use envelope::{Event, Schema, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::OrderId;

/// Where an order stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// May still change.
    Open,
    /// Changes no more, but that it may be cancelled.
    Completed,
    /// Changes no more.
    Cancelled,
}

/// A line of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// What is bought.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// Price of one, in minor units of the order's currency.
    pub unit_price: i64,
}

/// A whole order, as every order event carries it (event-carried state transfer): a consumer that
/// meets `completed` before `created` lacks nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which order.
    pub order_id: OrderId,
    /// Whose order.
    pub tenant_id: TenantId,
    /// Where it stands after this change.
    pub status: OrderStatus,
    /// Whom to write to.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// 1 to 100 lines.
    pub items: Vec<Item>,
    /// Sum over the lines, in minor units.
    pub total: i64,
    /// When it was placed, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An order was placed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderCreated(pub Order);

/// The items or the e-mail address of an open order changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderUpdated(pub Order);

/// An order was completed. It changes no more, but that it may be cancelled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderCompleted {
    /// The order as it was completed.
    #[serde(flatten)]
    pub order: Order,
    /// When, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub completed_at: OffsetDateTime,
}

/// An order was cancelled and changes no more: the compensation of [`OrderCompleted`], if it was completed before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// The order as it was cancelled.
    #[serde(flatten)]
    pub order: Order,
    /// When it was completed, UTC. `None` if it was cancelled while it was open.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<OffsetDateTime>,
    /// When it was cancelled, UTC.
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
