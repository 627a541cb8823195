//! Deliveries in the public API.

use envelope::TenantId;
use events::OrderId;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Row};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::deliveries::Attempt;

/// A delivery in the public API.
#[derive(Serialize, ToSchema)]
pub(super) struct Delivery {
    /// The `webhook-id` of all its attempts.
    pub(super) id: Uuid,
    pub(super) webhook_id: Uuid,
    /// `None` for a test.
    order_id: Option<Uuid>,
    #[serde(rename = "type")]
    event_type: String,
    url: String,
    status: String,
    attempts: Vec<Attempt>,
    /// Why the delivery failed, if no attempt shows the reason.
    failed_reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    delivered_at: Option<OffsetDateTime>,
}

const COLUMNS: &str = "id, webhook_id, order_id, event_type, url, status, attempts, failed_reason, created_at, delivered_at";

impl FromRow<'_, PgRow> for Delivery {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(attempts) = row.try_get("attempts")?;
        Ok(Self {
            id: row.try_get("id")?,
            webhook_id: row.try_get("webhook_id")?,
            order_id: row.try_get("order_id")?,
            event_type: row.try_get("event_type")?,
            url: row.try_get("url")?,
            status: row.try_get("status")?,
            attempts,
            failed_reason: row.try_get("failed_reason")?,
            created_at: row.try_get("created_at")?,
            delivered_at: row.try_get("delivered_at")?,
        })
    }
}

/// Status of a delivery.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = DeliveryStatus)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Waiting,
    Delivered,
    Failed,
    Held,
    Cancelled,
}

/// Conditions of a list of deliveries; all of them apply.
#[derive(Default)]
pub(super) struct Filter {
    pub(super) webhook_id: Option<Uuid>,
    pub(super) order_id: Option<OrderId>,
    pub(super) status: Option<Status>,
}

/// Lists the deliveries of a tenant below an id, newest first.
pub(super) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    filter: &Filter,
    below: Uuid,
    rows: i64,
) -> sqlx::Result<Vec<Delivery>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from deliveries where tenant_id = ").push_bind(tenant.as_str());
    query.push(" and id < ").push_bind(below);
    if let Some(webhook) = filter.webhook_id {
        query.push(" and webhook_id = ").push_bind(webhook);
    }
    if let Some(order) = filter.order_id {
        query.push(" and order_id = ").push_bind(order.0);
    }
    // Literals instead of parameters, so that Postgres can use the partial index of undelivered
    // rows.
    query.push(match filter.status {
        None => "",
        Some(Status::Waiting) => " and status = 'waiting'",
        Some(Status::Delivered) => " and status = 'delivered'",
        Some(Status::Failed) => " and status = 'failed'",
        Some(Status::Held) => " and status = 'held'",
        Some(Status::Cancelled) => " and status = 'cancelled'",
    });
    query.push(" order by id desc limit ").push_bind(rows);
    query.build_query_as().fetch_all(pool).await
}

/// Returns a delivery of this tenant.
pub(super) async fn find(
    pool: &PgPool,
    tenant: &TenantId,
    id: Uuid,
) -> sqlx::Result<Option<Delivery>> {
    let mut query = QueryBuilder::<Postgres>::new("select ");
    query.push(COLUMNS).push(" from deliveries where id = ").push_bind(id);
    query.push(" and tenant_id = ").push_bind(tenant.as_str());
    query.build_query_as().fetch_optional(pool).await
}
