//! Tracks whether a webhook's target responds, pauses webhooks, and disables one after days of
//! failures.

use std::time::Duration;

use envelope::TenantId;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::webhook_events::{self, WebhookEventType};

/// Maximum number of deliveries that a statement updates.
const CHUNK: i64 = 2_000;
/// Number of failures after which a webhook may be disabled, in addition to the time that they must
/// span. Failures within a tenth of that time count as one. So neither two failures with idle days
/// in between nor a burst of orders disables a webhook.
const MIN_FAILURES: i32 = 5;
/// Maximum pause for one response with `Retry-After`. The target may ask for another.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// Records a successful attempt.
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

/// Pauses a webhook for as long as its target asks, up to [`MAX_PAUSE`].
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

/// Records a failed attempt. Disables the webhook if all attempts have failed for `limit`, and
/// there were at least [`MIN_FAILURES`].
pub(super) async fn failed(
    tx: &mut PgConnection,
    webhook: Uuid,
    limit: Duration,
) -> sqlx::Result<()> {
    // `failing_since` decides, because an instance of the previous release resets only that column.
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

/// Disables a webhook after a permanent failure, regardless of its earlier attempts.
pub(super) async fn disable(
    tx: &mut PgConnection,
    webhook: Uuid,
    reason: &str,
) -> sqlx::Result<()> {
    disable_after(tx, webhook, reason, None).await
}

/// Disables a webhook and records an event with the reason. With a limit, disables it only if its
/// attempts have failed for that long. The statement itself checks this, so that a success recorded
/// by another instance counts. The caller runs the job of its delivery again, which calls
/// [`hold_all`].
async fn disable_after(
    tx: &mut PgConnection,
    webhook: Uuid,
    reason: &str,
    limit: Option<Duration>,
) -> sqlx::Result<()> {
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
        return Ok(());
    }
    webhook_events::insert(tx, webhook, WebhookEventType::Disabled, Some(reason)).await?;
    tracing::warn!(%webhook, reason, "webhook disabled");
    Ok(())
}

/// Holds the waiting deliveries of a disabled webhook. Their jobs end when they are due. `status <>
/// 'delivered'` is redundant, and lets Postgres use the partial index `deliveries_of_webhook_open`.
pub(super) async fn hold_all(pool: &PgPool, webhook: Uuid) -> sqlx::Result<()> {
    loop {
        let held = sqlx::query(
            // One that was enabled meanwhile keeps what waits.
            "with disabled as materialized (
                 select id from webhooks where id = $1 and status = 'disabled' for share
             ), waiting as materialized (
                 select id from deliveries
                 where webhook_id = (select id from disabled) and status <> 'delivered' and status = 'waiting'
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

/// Enables a webhook. Returns `false` if the tenant has no such webhook. Held deliveries stay held
/// until the tenant repeats them.
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
        webhook_events::insert(tx, webhook, WebhookEventType::Enabled, None).await?;
    }
    Ok(true)
}
