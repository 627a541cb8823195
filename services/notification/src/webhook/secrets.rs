//! Secrets of webhooks and their rotation: for a while deliveries are signed with the replaced
//! secrets too, so that the receiver can switch at any time.

use std::time::Duration;

use envelope::TenantId;
use sqlx::PgConnection;
use uuid::Uuid;

/// Maximum number of replaced secrets that sign in addition to the current one. Each adds a
/// signature to a header.
const MAX_REPLACED: i64 = 4;

/// Result of a rotation.
pub(super) enum Rotation {
    Rotated,
    UnknownWebhook,
    /// [`MAX_REPLACED`] replaced secrets are still valid.
    TooMany,
}

/// Replaces the secret of a webhook. The previous one stays valid for `valid_for`.
pub(super) async fn rotate(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: Uuid,
    secret: &str,
    valid_for: Duration,
) -> sqlx::Result<Rotation> {
    let before: Option<String> = sqlx::query_scalar(
        "select secret from webhooks where id = $1 and tenant_id = $2 for update",
    )
    .bind(id)
    .bind(tenant.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(before) = before else { return Ok(Rotation::UnknownWebhook) };
    let kept = sqlx::query(
        "insert into webhook_secrets (webhook_id, secret, valid_until)
         select $1, $2, now() + make_interval(secs => $3)
         where (select count(*) from webhook_secrets where webhook_id = $1 and valid_until > now()) < $4",
    )
    .bind(id)
    .bind(before)
    .bind(valid_for.as_secs_f64())
    .bind(MAX_REPLACED)
    .execute(&mut *tx)
    .await?;
    if kept.rows_affected() == 0 {
        return Ok(Rotation::TooMany);
    }
    sqlx::query("update webhooks set secret = $2 where id = $1")
        .bind(id)
        .bind(secret)
        .execute(tx)
        .await?;
    Ok(Rotation::Rotated)
}
