//! The table `webhooks`: URLs that tenants have registered for events.

use envelope::{Event, TenantId};
use events::{InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::addresses::{Guard, Refused};

/// Maximum number of webhooks of a tenant, since each event becomes a job for each of them.
const MAX_PER_TENANT: i64 = 20;
const MAX_URL_BYTES: usize = 2048;
/// Seed of the advisory locks of registrations ("hook"), which keeps them apart from other locks by
/// a hash of the same text.
const LOCK_SEED: i64 = 0x686f_6f6b;

/// Event types that a webhook can subscribe to.
pub(crate) const EVENTS: [&str; 4] =
    [OrderCompleted::TYPE, OrderCancelled::TYPE, InvoiceIssued::TYPE, InvoiceCredited::TYPE];

/// A webhook without its secret.
#[derive(Serialize, sqlx::FromRow, ToSchema)]
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    /// `enabled` or `disabled`.
    pub(crate) status: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) disabled_at: Option<OffsetDateTime>,
    pub(crate) disabled_reason: Option<String>,
    /// Time of the first failure since the last success. `None` if the last attempt succeeded.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) failing_since: Option<OffsetDateTime>,
    /// Deliveries are paused until then, because the target asked for it with `Retry-After`.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) paused_until: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
}

macro_rules! columns {
    () => {
        "id, url, events, status, disabled_at, disabled_reason, failing_since,
         case when paused_until > now() then paused_until end as paused_until, created_at"
    };
}

/// A URL is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("it is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    #[error("it is not a URL: {0}")]
    Malformed(String),
    #[error("it must begin with https://")]
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
    // Other characters than ASCII are longer in the URL, which is what is stored.
    if url.as_str().len() > MAX_URL_BYTES {
        return Err(BadUrl::TooLong);
    }
    if !guard.permits_scheme(&url) {
        return Err(BadUrl::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(BadUrl::Parts);
    }
    guard.check(&url).await?;
    Ok(url)
}

/// Result of a registration.
pub(crate) enum Registration {
    Registered(Webhook),
    /// The tenant has a webhook with this URL.
    Exists(Uuid),
    /// The tenant already has the maximum number.
    TooMany,
}

/// Inserts a webhook. Registrations of a tenant are serialised, so that the limits hold for
/// concurrent ones.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    tenant: &TenantId,
    url: &Url,
    events: &[String],
    secret: &str,
) -> sqlx::Result<Registration> {
    // A separate statement, so that the next one sees rows that were committed while this one
    // waited.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, $2))")
        .bind(tenant.as_str())
        .bind(LOCK_SEED)
        .execute(&mut *tx)
        .await?;
    let (count, twin): (i64, Option<Uuid>) = sqlx::query_as(
        "select count(*), (array_agg(id order by id) filter (where url = $2))[1] from webhooks where tenant_id = $1",
    )
    .bind(tenant.as_str())
    .bind(url.as_str())
    .fetch_one(&mut *tx)
    .await?;
    if let Some(twin) = twin {
        return Ok(Registration::Exists(twin));
    }
    if count >= MAX_PER_TENANT {
        return Ok(Registration::TooMany);
    }
    let webhook = sqlx::query_as(concat!(
        "insert into webhooks (id, tenant_id, url, unique_url, events, secret) values ($1, $2, $3, $3, $4, $5) returning ",
        columns!()
    ))
    .bind(Uuid::now_v7())
    .bind(tenant.as_str())
    .bind(url.as_str())
    .bind(events)
    .bind(secret)
    .fetch_one(tx)
    .await?;
    Ok(Registration::Registered(webhook))
}

/// Lists the webhooks of a tenant below an id, newest first.
pub(crate) async fn list(
    pool: &PgPool,
    tenant: &TenantId,
    below: Uuid,
    rows: i64,
) -> sqlx::Result<Vec<Webhook>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from webhooks where tenant_id = $1 and id < $2 order by id desc limit $3"
    ))
    .bind(tenant.as_str())
    .bind(below)
    .bind(rows)
    .fetch_all(pool)
    .await
}

/// Returns a webhook of this tenant.
pub(crate) async fn find(
    connection: impl PgExecutor<'_>,
    tenant: &TenantId,
    id: Uuid,
) -> sqlx::Result<Option<Webhook>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from webhooks where id = $1 and tenant_id = $2"
    ))
    .bind(id)
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await
}

/// Deletes a webhook. Returns `false` if the tenant has no such webhook. Its waiting deliveries
/// are cancelled when their jobs are due.
pub(crate) async fn delete(pool: &PgPool, tenant: &TenantId, id: Uuid) -> sqlx::Result<bool> {
    let deleted = sqlx::query("delete from webhooks where id = $1 and tenant_id = $2")
        .bind(id)
        .bind(tenant.as_str())
        .execute(pool)
        .await?;
    Ok(deleted.rows_affected() == 1)
}
