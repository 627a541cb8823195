//! Whether a webhook's target answers, and what becomes of one whose target does not for days.

use std::time::Duration;

use envelope::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

use super::webhook_events::{self, Happened};

/// How many deliveries one statement holds.
const CHUNK: i64 = 2_000;

/// Records an attempt that succeeded.
pub(super) async fn succeeded(pool: &PgPool, webhook: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update webhooks set failing_since = null where id = $1 and failing_since is not null",
    )
    .bind(webhook)
    .execute(pool)
    .await?;
    Ok(())
}

/// Records an attempt that failed. Returns `true` if nothing else has happened for `limit`.
pub(super) async fn failed(pool: &PgPool, webhook: Uuid, limit: Duration) -> sqlx::Result<bool> {
    sqlx::query(
        "update webhooks set failing_since = now() where id = $1 and failing_since is null",
    )
    .bind(webhook)
    .execute(pool)
    .await?;
    let for_long: Option<bool> = sqlx::query_scalar(
        "select failing_since <= now() - make_interval(secs => $2) from webhooks where id = $1",
    )
    .bind(webhook)
    .bind(limit.as_secs_f64())
    .fetch_optional(pool)
    .await?
    .flatten();
    Ok(for_long.unwrap_or_default())
}

/// Disables a webhook, with an event that says why, and holds what waits for it.
pub(super) async fn disable(pool: &PgPool, webhook: Uuid, reason: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    let disabled = sqlx::query(
        "update webhooks set status = 'disabled', disabled_at = now(), disabled_reason = $2
         where id = $1 and status = 'enabled'",
    )
    .bind(webhook)
    .bind(reason)
    .execute(&mut *tx)
    .await?;
    if disabled.rows_affected() == 1 {
        webhook_events::insert(&mut tx, webhook, Happened::Disabled, Some(reason)).await?;
    }
    tx.commit().await?;
    tracing::warn!(%webhook, reason, "disabled webhook");
    hold_all(pool, webhook).await
}

/// Holds the deliveries that wait. Their jobs find that when they are due, and end.
async fn hold_all(pool: &PgPool, webhook: Uuid) -> sqlx::Result<()> {
    loop {
        let held = sqlx::query(
            "update deliveries set status = 'held' where id = any(array(
                 select id from deliveries
                 where webhook_id = $1 and status <> 'delivered' and status = 'waiting' limit $2))
             and status = 'waiting'",
        )
        .bind(webhook)
        .bind(CHUNK)
        .execute(pool)
        .await?;
        if held.rows_affected() < CHUNK.unsigned_abs() {
            return Ok(());
        }
    }
}

/// Enables a webhook. Returns `false` if the tenant has no such webhook. What is held stays so until it is asked for.
pub(super) async fn enable(
    tx: &mut sqlx::PgConnection,
    tenant: &TenantId,
    webhook: Uuid,
) -> sqlx::Result<bool> {
    let before: Option<String> = sqlx::query_scalar(
        "select status from webhooks where id = $1 and tenant_id = $2 for update",
    )
    .bind(webhook)
    .bind(tenant.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(before) = before else { return Ok(false) };
    if before == "disabled" {
        sqlx::query(
            "update webhooks
             set status = 'enabled', disabled_at = null, disabled_reason = null, failing_since = null
             where id = $1",
        )
        .bind(webhook)
        .execute(&mut *tx)
        .await?;
        webhook_events::insert(tx, webhook, Happened::Enabled, None).await?;
    }
    Ok(true)
}
