//! Bodies of the requests and responses.

use std::fmt;

use axum::http::StatusCode;
use axum::http::header::ETAG;
use chassis::{Answer, JsonObject, Problem};
use envelope::TenantId;
use events::{Item, OrderId, OrderStatus};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::order::{Draft, DraftChange, Order};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    #[schema(format = Email, max_length = 254)]
    customer_email: String,
    /// ISO 4217 code.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: String,
    #[schema(value_type = Vec<NewItem>, min_items = 1, max_items = 100)]
    items: Vec<JsonObject<NewItem>>,
    /// Completes the order at once.
    #[serde(default)]
    pub(super) complete: bool,
}

impl NewOrder {
    /// Converts the body to an unchecked draft.
    pub(super) fn into_draft(self) -> Draft {
        let Self { customer_email, currency, items, complete: _ } = self;
        Draft { customer_email, currency, items: to_items(items) }
    }
}

/// A line of an order.
#[derive(Deserialize, ToSchema)]
#[schema(as = Item)]
#[serde(deny_unknown_fields)]
struct NewItem {
    #[schema(min_length = 1, max_length = 64)]
    sku: String,
    #[schema(minimum = 1, maximum = 1_000_000)]
    #[serde(deserialize_with = "integer")]
    quantity: i64,
    /// Price of one unit, in minor units of the currency.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    #[serde(deserialize_with = "minor_units")]
    unit_price: i64,
}

fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    from.deserialize_i64(Integer("an integer"))
}

fn minor_units<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    from.deserialize_i64(Integer("an integer in minor units, such as 1999 for 19.99"))
}

/// Deserializes an integer. Its error names the expected value.
struct Integer(&'static str);

impl Visitor<'_> for Integer {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
}

#[derive(Deserialize, ToSchema)]
#[schema(min_properties = 1)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderChange {
    #[schema(nullable = false, format = Email, max_length = 254)]
    #[serde(default, deserialize_with = "not_null")]
    customer_email: Option<String>,
    #[schema(value_type = Option<Vec<NewItem>>, nullable = false, min_items = 1, max_items = 100)]
    #[serde(default, deserialize_with = "not_null")]
    items: Option<Vec<JsonObject<NewItem>>>,
}

impl OrderChange {
    /// Converts the body to an unchecked draft.
    pub(super) fn into_draft(self) -> DraftChange {
        let Self { customer_email, items } = self;
        DraftChange { customer_email, items: items.map(to_items) }
    }
}

/// Rejects `null`: it could mean "unchanged" or "remove", and neither is offered.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// An order.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderBody<'a> {
    #[schema(value_type = Uuid)]
    id: OrderId,
    #[schema(value_type = String)]
    tenant_id: &'a TenantId,
    /// Incremented by every change.
    version: i64,
    #[schema(schema_with = status_schema)]
    status: OrderStatus,
    /// Sum over the items, in minor units of the currency.
    total: i64,
    currency: &'a str,
    customer_email: &'a str,
    #[schema(value_type = Vec<NewItem>)]
    items: &'a [Item],
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    completed_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<OffsetDateTime>,
}

/// Returns the schema of [`OrderStatus`], a type of the domain, which does not derive one.
fn status_schema() -> Object {
    let statuses = [OrderStatus::Open, OrderStatus::Completed, OrderStatus::Cancelled];
    let names = statuses.iter().filter_map(|it| serde_json::to_value(it).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}

/// Creates a response with the order and its `ETag`.
pub(super) fn answer(status: StatusCode, order: &Order) -> Result<Answer, Problem> {
    Ok(Answer::new(status, &OrderBody::of(order))?.header(&ETAG, super::etag(order)))
}

impl<'a> OrderBody<'a> {
    pub(super) fn of(order: &'a Order) -> Self {
        let state = &order.state;
        Self {
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
            cancelled_at: order.cancelled_at,
        }
    }
}

fn to_items(items: Vec<JsonObject<NewItem>>) -> Vec<Item> {
    let item =
        |JsonObject(NewItem { sku, quantity, unit_price })| Item { sku, quantity, unit_price };
    items.into_iter().map(item).collect()
}
