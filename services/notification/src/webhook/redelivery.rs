//! Deliveries at a tenant's request: repetitions and tests.

use std::time::Duration;

use envelope::TenantId;
use jobs::{EnqueueError, Meta};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::deliver_webhook::DeliverWebhook;
use crate::retention::id_at;

/// Maximum number of deliveries that a request repeats.
pub(super) const MAX_AT_ONCE: i64 = 10_000;
/// Maximum number of deliveries that a statement repeats.
const CHUNK: usize = 500;
/// Seed of the advisory locks of redeliveries ("redo"), which keeps them apart from other locks by
/// a hash of the same text.
const LOCK_SEED: i64 = 0x7265_646f;
/// How far the clock that made an id may be before that of the database.
const CLOCKS: Duration = Duration::from_hours(24);
/// Event type of a test delivery.
const TEST: &str = "webhook.test";
const SOURCE: &str = "/notification";

/// States in which a delivery can be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Repeatable {
    Failed,
    Held,
    Delivered,
}

impl Repeatable {
    /// The states to repeat by default.
    pub(super) const DEFAULT: [Self; 2] = [Self::Failed, Self::Held];

    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Delivered => "delivered",
        }
    }
}

/// A repeated delivery.
#[derive(sqlx::FromRow)]
struct RedeliveryRow {
    id: Uuid,
    webhook_id: Uuid,
    tenant_id: String,
    order_id: Option<Uuid>,
    round: i32,
}

/// Number of deliveries that a request repeated, and where the rest begins.
pub(super) struct Repeated {
    pub(super) count: i64,
    /// Id of the last one. `None` if there are no more.
    pub(super) last: Option<Uuid>,
}

/// Repeats a delivery in any state. Returns `false` if the tenant has no such delivery, or its
/// content was erased.
pub(super) async fn redeliver(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: Uuid,
) -> Result<bool, EnqueueError> {
    let webhook: Option<Uuid> =
        sqlx::query_scalar("select webhook_id from deliveries where id = $1 and tenant_id = $2")
            .bind(id)
            .bind(tenant.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    let Some(webhook) = webhook else { return Ok(false) };
    lock_webhook(tx, webhook).await?;
    let all = ["waiting", "delivered", "failed", "held", "cancelled"];
    jobs::lock(tx, &[id]).await?;
    Ok(begin_round(tx, &[id], &all).await? == 1)
}

/// Repeats deliveries in these states that were created at `since` or later and have an id above
/// `after`, oldest first, up to [`MAX_AT_ONCE`].
pub(super) async fn redeliver_since(
    tx: &mut PgConnection,
    webhook: Uuid,
    since: OffsetDateTime,
    states: &[Repeatable],
    after: Uuid,
) -> Result<Repeated, EnqueueError> {
    lock_webhook(tx, webhook).await?;
    let states: Vec<_> = states.iter().map(|state| state.name()).collect();
    // Ids ascend with time, so that older deliveries are not read.
    let since_1970 = Duration::try_from(since - OffsetDateTime::UNIX_EPOCH).unwrap_or_default();
    let after = after.max(id_at(since_1970.saturating_sub(CLOCKS)));
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select id from deliveries
         where webhook_id = $1 and status = any($2) and created_at >= $3 and id > $4 and body <> '{}'
         order by id limit $5",
    )
    .bind(webhook)
    .bind(&states)
    .bind(pg::in_utc(since))
    .bind(after)
    .bind(MAX_AT_ONCE)
    .fetch_all(&mut *tx)
    .await?;
    // All jobs are locked before the first delivery. Otherwise the jobs of the second chunk would
    // be locked after the deliveries of the first.
    jobs::lock(tx, &ids).await?;
    let mut count = 0;
    for chunk in ids.chunks(CHUNK) {
        count += begin_round(tx, chunk, &states).await?;
    }
    let has_more = i64::try_from(ids.len()).is_ok_and(|chosen| chosen >= MAX_AT_ONCE);
    Ok(Repeated { count, last: ids.last().copied().filter(|_| has_more) })
}

/// Serialises the requests of a webhook. Two that enqueue the same delivery would conflict.
async fn lock_webhook(tx: &mut PgConnection, webhook: Uuid) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, $2))")
        .bind(webhook.to_string())
        .bind(LOCK_SEED)
        .execute(tx)
        .await?;
    Ok(())
}

/// Begins the next round of the deliveries that are still in one of these states and whose content
/// was not erased. Existing jobs are restarted with the new round, and missing ones are enqueued.
/// The caller has locked the jobs ([`jobs::lock`]). Returns the number of deliveries.
async fn begin_round(
    tx: &mut PgConnection,
    ids: &[Uuid],
    states: &[&str],
) -> Result<i64, EnqueueError> {
    let deliveries: Vec<RedeliveryRow> = sqlx::query_as(
        "with chosen as materialized (
             select id from deliveries where id = any($1) and status = any($2) and body <> '{}' order by id for update)
         update deliveries
         set round = round + 1, status = 'waiting', delivered_at = null, failed_reason = null
         from chosen where deliveries.id = chosen.id
         returning deliveries.id, webhook_id, tenant_id, order_id, round",
    )
    .bind(ids)
    .bind(states)
    .fetch_all(&mut *tx)
    .await?;
    let jobs: Vec<_> = deliveries.iter().map(|delivery| (delivery, delivery.job())).collect();
    let existing = jobs::restart(tx, jobs.iter().map(|(delivery, job)| (delivery.id, job))).await?;
    let missing = jobs.iter().filter(|(delivery, _)| !existing.contains(&delivery.id));
    let missing: Vec<_> = missing.map(|(delivery, job)| (job, delivery.meta())).collect();
    if !missing.is_empty() {
        jobs::enqueue_all(tx, missing).await?;
    }
    Ok(i64::try_from(deliveries.len()).unwrap_or(MAX_AT_ONCE))
}

impl RedeliveryRow {
    fn job(&self) -> DeliverWebhook {
        DeliverWebhook::of_round(self.id, self.round)
    }

    fn meta(&self) -> Meta {
        let subject = self.order_id.unwrap_or(self.webhook_id).to_string();
        meta(self.id, self.webhook_id, &self.tenant_id).subject(subject)
    }
}

/// Returns the metadata of a delivery's job: the id of the delivery, the webhook as its lane, and
/// the tenant.
pub(super) fn meta(delivery: Uuid, webhook: Uuid, tenant: &str) -> Meta {
    Meta::new().id(delivery).lane(webhook.to_string()).tenant(tenant)
}

/// Inserts a test delivery and returns its id.
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
    jobs::enqueue(tx, &DeliverWebhook::first(id), meta).await?;
    Ok(id)
}
