//! Deliveries that a tenant asks for: again, or as a test.

use envelope::TenantId;
use jobs::{EnqueueError, Meta};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::deliver_webhook::DeliverWebhook;

/// How many deliveries one request repeats at most.
pub(super) const MAX_AT_ONCE: i64 = 10_000;
const CHUNK: i64 = 500;
/// Seed of the advisory locks of redeliveries ("redo"), so that other locks by a hash of the same text are other locks.
const LOCK_SEED: i64 = 0x7265_646f;
/// The type of a test delivery.
const TEST: &str = "webhook.test";
const SOURCE: &str = "/notification";

/// A delivery that is made again.
#[derive(sqlx::FromRow)]
struct Again {
    id: Uuid,
    webhook_id: Uuid,
    tenant_id: String,
    order_id: Option<Uuid>,
}

/// Delivers once more, whatever became of it. Returns `false` if the tenant has no such delivery, or its content was erased.
pub(super) async fn redeliver(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: Uuid,
) -> Result<bool, EnqueueError> {
    let again: Option<Again> = sqlx::query_as(
        "select id, webhook_id, tenant_id, order_id from deliveries
         where id = $1 and tenant_id = $2 and body <> '{}'",
    )
    .bind(id)
    .bind(tenant.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(again) = again else { return Ok(false) };
    enqueue(tx, &[again]).await?;
    Ok(true)
}

/// Delivers what has failed or is held since a moment, the oldest first. Returns how many: as many as one request may repeat
/// if there are more.
pub(super) async fn redeliver_since(
    tx: &mut PgConnection,
    webhook: Uuid,
    since: OffsetDateTime,
) -> Result<i64, EnqueueError> {
    let (mut redelivered, mut after) = (0, Uuid::nil());
    while redelivered < MAX_AT_ONCE {
        let again: Vec<Again> = sqlx::query_as(
            "select id, webhook_id, tenant_id, order_id from deliveries
             where webhook_id = $1 and status <> 'delivered' and status in ('failed', 'held') and created_at >= $2
                 and id > $3 and body <> '{}'
             order by id limit $4",
        )
        .bind(webhook)
        .bind(since)
        .bind(after)
        .bind(CHUNK)
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = again.last() else { break };
        after = last.id;
        enqueue(tx, &again).await?;
        redelivered += i64::try_from(again.len()).unwrap_or(CHUNK);
    }
    Ok(redelivered)
}

/// Restarts the jobs that are there still, failed or waiting, and enqueues the others. The jobs first, as when a worker records
/// what came of one: the other way round the two could wait for each other.
///
/// One request of a webhook waits for another: two that enqueue the same delivery would be one too many.
async fn enqueue(tx: &mut PgConnection, again: &[Again]) -> Result<(), EnqueueError> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, $2))")
        .bind(again.first().map(|delivery| delivery.webhook_id.to_string()))
        .bind(LOCK_SEED)
        .execute(&mut *tx)
        .await?;
    let ids: Vec<_> = again.iter().map(|delivery| delivery.id).collect();
    let there = jobs::restart(&mut *tx, &ids).await?;
    let gone = again.iter().filter(|delivery| !there.contains(&delivery.id));
    let jobs: Vec<_> =
        gone.map(|delivery| (DeliverWebhook { delivery: delivery.id }, delivery.meta())).collect();
    if !jobs.is_empty() {
        jobs::enqueue_all(&mut *tx, jobs.iter().map(|(job, meta)| (job, meta.clone()))).await?;
    }
    sqlx::query("update deliveries set status = 'waiting', delivered_at = null where id = any($1)")
        .bind(&ids)
        .execute(tx)
        .await?;
    Ok(())
}

impl Again {
    fn meta(&self) -> Meta {
        let subject = self.order_id.unwrap_or(self.webhook_id).to_string();
        meta(self.id, self.webhook_id, &self.tenant_id).subject(subject)
    }
}

/// What every job of a delivery carries: the delivery's own id, and the places of its webhook and tenant.
pub(super) fn meta(delivery: Uuid, webhook: Uuid, tenant: &str) -> Meta {
    Meta::new().id(delivery).lane(webhook.to_string()).tenant(tenant)
}

/// Writes a test delivery, and returns its id.
pub(super) async fn test(
    tx: &mut PgConnection,
    tenant: &TenantId,
    webhook: Uuid,
    url: &str,
) -> Result<Uuid, EnqueueError> {
    let (id, at) = (Uuid::now_v7(), OffsetDateTime::now_utc().format(&Rfc3339));
    let body = json!({ "type": TEST, "timestamp": at.ok(), "data": { "webhook_id": webhook } });
    sqlx::query(
        "insert into deliveries (id, webhook_id, tenant_id, event_source, event_id, event_type, url, body)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(webhook)
    .bind(tenant.as_str())
    .bind(SOURCE)
    .bind(id.to_string())
    .bind(TEST)
    .bind(url)
    .bind(body.to_string())
    .execute(&mut *tx)
    .await?;
    let meta = meta(id, webhook, tenant.as_str()).subject(webhook.to_string());
    jobs::enqueue(tx, &DeliverWebhook { delivery: id }, meta).await?;
    Ok(id)
}
