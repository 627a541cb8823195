//! The table `webhooks`: URLs that tenants registered for events.

use envelope::{Event, TenantId};
use events::{InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted};
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::addresses::{Guard, Refused};

/// Each event of a tenant becomes a job for each of its webhooks, so their number is bounded.
const MAX_PER_TENANT: i64 = 20;
const MAX_URL_BYTES: usize = 2048;

/// Event types that a webhook can subscribe to.
pub(crate) const EVENTS: [&str; 4] =
    [OrderCompleted::TYPE, OrderCancelled::TYPE, InvoiceIssued::TYPE, InvoiceCredited::TYPE];

/// A webhook, but for its secret.
#[derive(Serialize, sqlx::FromRow)]
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
}

/// Why a URL is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("it is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    #[error("it is no URL: {0}")]
    Malformed(String),
    #[error("it must begin with http:// or https://")]
    Scheme,
    #[error("it must not have a user, a password or a fragment")]
    Parts,
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Parses a URL and checks that it leads to the public Internet.
pub(crate) async fn check(text: &str, guard: &Guard) -> Result<Url, BadUrl> {
    if text.len() > MAX_URL_BYTES {
        return Err(BadUrl::TooLong);
    }
    let url = Url::parse(text).map_err(|error| BadUrl::Malformed(error.to_string()))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(BadUrl::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(BadUrl::Parts);
    }
    guard.check(&url).await?;
    Ok(url)
}

/// Inserts a webhook. Returns `None` if the tenant has the maximum number already.
pub(crate) async fn insert(
    pool: &PgPool,
    tenant: &TenantId,
    url: &Url,
    events: &[String],
    secret: &str,
) -> sqlx::Result<Option<Webhook>> {
    sqlx::query_as(
        "insert into webhooks (id, tenant_id, url, events, secret)
         select $1, $2, $3, $4, $5 where (select count(*) from webhooks where tenant_id = $2) < $6
         returning id, url, events, created_at",
    )
    .bind(Uuid::now_v7())
    .bind(tenant.as_str())
    .bind(url.as_str())
    .bind(events)
    .bind(secret)
    .bind(MAX_PER_TENANT)
    .fetch_optional(pool)
    .await
}

/// Lists the webhooks of a tenant.
pub(crate) async fn of_tenant(pool: &PgPool, tenant: &TenantId) -> sqlx::Result<Vec<Webhook>> {
    sqlx::query_as(
        "select id, url, events, created_at from webhooks where tenant_id = $1 order by id",
    )
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await
}

/// Deletes a webhook. Returns `false` if the tenant has no such webhook. Deliveries that wait are cancelled.
pub(crate) async fn delete(pool: &PgPool, tenant: &TenantId, id: Uuid) -> sqlx::Result<bool> {
    let deleted = sqlx::query("delete from webhooks where id = $1 and tenant_id = $2")
        .bind(id)
        .bind(tenant.as_str())
        .execute(pool)
        .await?;
    Ok(deleted.rows_affected() == 1)
}
