//! Tracks whether a webhook's target answers, and disables a webhook after days of failures.

use std::time::Duration;

use envelope::TenantId;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::webhook_events::{self, Happened};

/// How many deliveries one statement holds.
const CHUNK: i64 = 2_000;
/// How many failed attempts it takes to disable a webhook, besides the time that they span. Within a tenth of that time they
/// count as one: a webhook that was idle for days between two failures is not disabled, nor by a burst of orders.
const MIN_FAILURES: i32 = 5;
/// Longest pause for one response with `Retry-After`. The target may ask again.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// Records an attempt that succeeded.
pub(super) async fn succeeded(tx: &mut PgConnection, webhook: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update webhooks set failing_since = null, failures = 0, failure_counted_at = null
         where id = $1 and failing_since is not null",
    )
    .bind(webhook)
    .execute(tx)
    .await?;
    Ok(())
}

/// Pauses a webhook for as long as its target asks.
pub(super) async fn pause(
    tx: &mut PgConnection,
    webhook: Uuid,
    wait: Duration,
) -> sqlx::Result<()> {
    sqlx::query(
        "update webhooks set paused_until = greatest(paused_until, now() + make_interval(secs => $2)) where id = $1",
    )
    .bind(webhook)
    .bind(wait.min(MAX_PAUSE).as_secs_f64())
    .execute(tx)
    .await?;
    Ok(())
}

/// Records an attempt that failed, and disables the webhook if nothing but failures, enough of them, were recorded for `limit`.
/// Returns `true` if it did: then [`hold_all`] is due once this is committed.
pub(super) async fn failed(
    tx: &mut PgConnection,
    webhook: Uuid,
    limit: Duration,
) -> sqlx::Result<bool> {
    // An instance of the release before resets failing_since alone.
    sqlx::query(
        "update webhooks
         set failures = case when failing_since is null then 1 else failures + 1 end,
             failing_since = coalesce(failing_since, now()), failure_counted_at = now()
         where id = $1 and (failing_since is null or failure_counted_at is null
                            or failure_counted_at <= now() - make_interval(secs => $2))",
    )
    .bind(webhook)
    .bind(limit.as_secs_f64() / 10.0)
    .execute(&mut *tx)
    .await?;
    let reason = format!("no delivery has succeeded for {}", humantime::format_duration(limit));
    disable_after(tx, webhook, &reason, Some(limit)).await
}

/// Disables a webhook that can't be delivered to, whatever its attempts before. [`hold_all`] is due once this is committed.
pub(super) async fn disable(
    tx: &mut PgConnection,
    webhook: Uuid,
    reason: &str,
) -> sqlx::Result<()> {
    disable_after(tx, webhook, reason, None).await?;
    Ok(())
}

/// Disables a webhook, with an event that says why. With a limit only if its attempts have failed for as long: decided by the
/// statement that disables it, so that an attempt that has succeeded elsewhere by then counts. Returns `true` if it was
/// disabled.
async fn disable_after(
    tx: &mut PgConnection,
    webhook: Uuid,
    reason: &str,
    limit: Option<Duration>,
) -> sqlx::Result<bool> {
    let disabled = sqlx::query(
        "update webhooks set status = 'disabled', disabled_at = now(), disabled_reason = $2
         where id = $1 and status = 'enabled'
             and ($3::float8 is null or failing_since <= now() - make_interval(secs => $3) and failures >= $4)",
    )
    .bind(webhook)
    .bind(reason)
    .bind(limit.map(|limit| limit.as_secs_f64()))
    .bind(MIN_FAILURES)
    .execute(&mut *tx)
    .await?;
    if disabled.rows_affected() == 0 {
        return Ok(false);
    }
    webhook_events::insert(tx, webhook, Happened::Disabled, Some(reason)).await?;
    tracing::warn!(%webhook, reason, "disabled webhook");
    Ok(true)
}

/// Holds the deliveries that wait for a webhook that was disabled. Their jobs find that when they are due, and end. `status <> 'delivered'` is implied, and
/// named so that Postgres uses the partial index `deliveries_of_webhook_open`.
pub(super) async fn hold_all(pool: &PgPool, webhook: Uuid) -> sqlx::Result<()> {
    loop {
        let held = sqlx::query(
            "with waiting as materialized (
                 select id from deliveries
                 where webhook_id = $1 and status <> 'delivered' and status = 'waiting'
                 order by id limit $2 for update)
             update deliveries set status = 'held' from waiting where deliveries.id = waiting.id",
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
    tx: &mut PgConnection,
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
             set status = 'enabled', disabled_at = null, disabled_reason = null, failing_since = null,
                 failures = 0, failure_counted_at = null, paused_until = null
             where id = $1",
        )
        .bind(webhook)
        .execute(&mut *tx)
        .await?;
        webhook_events::insert(tx, webhook, Happened::Enabled, None).await?;
    }
    Ok(true)
}
