//! The table `webhook_events`: events of a webhook, shown to its tenant.

use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Type of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum WebhookEventType {
    Disabled,
    Enabled,
    SecretRotated,
}

impl WebhookEventType {
    fn name(self) -> &'static str {
        match self {
            Self::Disabled => "webhook.disabled",
            Self::Enabled => "webhook.enabled",
            Self::SecretRotated => "webhook.secret_rotated",
        }
    }
}

/// An event of a webhook.
#[derive(Serialize, sqlx::FromRow, ToSchema)]
pub(super) struct WebhookEvent {
    pub(super) id: Uuid,
    #[serde(rename = "type")]
    r#type: String,
    detail: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    webhook: Uuid,
    event_type: WebhookEventType,
    detail: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into webhook_events (id, webhook_id, type, detail) values ($1, $2, $3, $4)",
    )
    .bind(Uuid::now_v7())
    .bind(webhook)
    .bind(event_type.name())
    .bind(detail)
    .execute(tx)
    .await?;
    Ok(())
}

/// Lists the events of a webhook below an id, newest first.
pub(super) async fn list(
    pool: &PgPool,
    webhook: Uuid,
    below: Uuid,
    rows: i64,
) -> sqlx::Result<Vec<WebhookEvent>> {
    sqlx::query_as(
        "select id, type, detail, created_at from webhook_events
         where webhook_id = $1 and id < $2 order by id desc limit $3",
    )
    .bind(webhook)
    .bind(below)
    .bind(rows)
    .fetch_all(pool)
    .await
}
