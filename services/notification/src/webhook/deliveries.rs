//! The table `deliveries`: events to deliver to webhooks, with their attempts.

use std::collections::HashSet;
use std::time::Duration;

use consumer::Received;
use events::{OrderEvent, OrderId};
use jobs::{EnqueueError, Meta};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use super::deliver_webhook::DeliverWebhook;
use super::redelivery::meta;

/// Maximum size of a body. It is stored once per webhook.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Maximum bytes of deliveries in a statement. The last event may exceed it.
const CHUNK_BYTES: usize = 512 * 1024;
/// Approximate size of a delivery without its body, including its job.
const ROW_BYTES: usize = 512;
/// Minimum time until a paused delivery is checked again.
const SHORTEST_PAUSE: Duration = Duration::from_secs(30);

/// An attempt of a delivery.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Attempt {
    /// Counts from 1, and starts again after an operator's retry.
    #[serde(rename = "attempt")]
    pub(crate) number: u32,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    pub(crate) ms: u64,
    /// Status of the response. `None` if there was none.
    pub(crate) status: Option<u16>,
    /// Error, if the attempt failed.
    pub(crate) error: Option<String>,
}

/// A delivery that is still to be made.
#[derive(sqlx::FromRow)]
pub(crate) struct Undelivered {
    pub(crate) webhook_id: Uuid,
    pub(crate) round: i32,
    pub(crate) url: String,
    pub(crate) body: String,
    /// `None` if the webhook was deleted.
    pub(crate) secret: Option<String>,
    /// Replaced secrets that are still valid.
    pub(crate) replaced_secrets: Vec<String>,
    pub(crate) is_disabled: bool,
    /// Seconds until the delivery is checked again, if its webhook is paused: up to a fifth longer
    /// than the target asked for, and at least half a minute to a minute. Without this minimum, a
    /// target that asks for one second again and again would make thousands of deliveries due each
    /// second.
    pub(crate) paused_for: Option<f64>,
}

#[derive(sqlx::FromRow)]
struct Subscribed {
    id: Uuid,
    tenant_id: String,
    is_disabled: bool,
}

/// Deliveries that one statement inserts, in the order in which all transactions lock them.
#[derive(Default)]
struct Chunk {
    /// One body for each event.
    bodies: Vec<String>,
    /// For each delivery, the index of its body, from 1.
    places: Vec<i32>,
    ids: Vec<Uuid>,
    webhooks: Vec<Uuid>,
    tenants: Vec<String>,
    orders: Vec<Uuid>,
    sources: Vec<String>,
    events: Vec<String>,
    statuses: Vec<&'static str>,
    /// Metadata of the job. `None` if the webhook is disabled.
    metas: Vec<Option<Meta>>,
    bytes: usize,
}

/// Inserts a delivery, with its job, for each event and webhook of its tenant, unless it exists
/// already.
pub(crate) async fn write<E: OrderEvent>(
    tx: &mut PgConnection,
    events: &[Received<E>],
) -> Result<(), EnqueueError> {
    let tenants: Vec<_> = events.iter().map(|event| event.data.tenant_id().as_str()).collect();
    let subscribed: Vec<Subscribed> = sqlx::query_as(
        "select id, tenant_id, status = 'disabled' as is_disabled from webhooks
         where tenant_id = any($1) and $2 = any(events) order by id",
    )
    .bind(tenants)
    .bind(E::TYPE)
    .fetch_all(&mut *tx)
    .instrument(query_span("select webhooks"))
    .await?;
    let subscribed = confirm_disabled(tx, subscribed).await?;
    let mut sorted: Vec<_> = events.iter().collect();
    sorted.sort_by_key(|event| (&event.envelope.source, event.envelope.id.as_str()));
    let mut chunk = Chunk::default();
    for event in sorted {
        chunk.add(event, &subscribed);
        if chunk.bytes >= CHUNK_BYTES {
            std::mem::take(&mut chunk).write(tx, E::TYPE).await?;
        }
    }
    chunk.write(tx, E::TYPE).await
}

/// Keeps disabled webhooks disabled until the transaction ends: its deliveries will be held, and
/// nothing would send them if the webhook were enabled before the commit. Webhooks that were
/// enabled meanwhile are returned as such.
async fn confirm_disabled(
    tx: &mut PgConnection,
    mut subscribed: Vec<Subscribed>,
) -> sqlx::Result<Vec<Subscribed>> {
    let disabled = subscribed.iter().filter(|webhook| webhook.is_disabled);
    let disabled: Vec<_> = disabled.map(|webhook| webhook.id).collect();
    if disabled.is_empty() {
        return Ok(subscribed);
    }
    let still = sqlx::query_scalar::<_, Uuid>(
        "select id from webhooks where id = any($1) and status = 'disabled' order by id for share",
    );
    let still = still.bind(disabled).fetch_all(tx).await?;
    for webhook in &mut subscribed {
        webhook.is_disabled = still.contains(&webhook.id);
    }
    Ok(subscribed)
}

impl Chunk {
    /// Adds the deliveries of an event. Its body is rendered and sent once.
    fn add<E: OrderEvent>(&mut self, event: &Received<E>, subscribed: &[Subscribed]) {
        let (envelope, tenant) = (&event.envelope, event.data.tenant_id().as_str());
        let mut webhooks =
            subscribed.iter().filter(|webhook| webhook.tenant_id == tenant).peekable();
        if webhooks.peek().is_none() {
            return;
        }
        let time = envelope.time.unwrap_or_else(OffsetDateTime::now_utc).format(&Rfc3339);
        let body = body(E::TYPE, time.ok().as_deref(), &*event.data, event.data.order_id());
        self.bytes += body.len();
        self.bodies.push(body);
        let place = i32::try_from(self.bodies.len()).unwrap_or(i32::MAX);
        for webhook in webhooks {
            let id = Uuid::now_v7();
            let order = event.data.order_id();
            self.places.push(place);
            self.ids.push(id);
            self.webhooks.push(webhook.id);
            self.tenants.push(tenant.to_owned());
            self.orders.push(order.0);
            self.sources.push(envelope.source.clone());
            self.events.push(envelope.id.to_string());
            self.statuses.push(if webhook.is_disabled { "held" } else { "waiting" });
            let meta =
                || meta(id, webhook.id, tenant).cause(&event.cause()).subject(order.to_string());
            self.metas.push((!webhook.is_disabled).then(meta));
            self.bytes += ROW_BYTES;
        }
    }

    async fn write(self, tx: &mut PgConnection, event_type: &str) -> Result<(), EnqueueError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let written: HashSet<Uuid> = sqlx::query_scalar(
            // The body is joined after the sort. Otherwise Postgres would sort the repeated bodies,
            // and spill them to disk.
            "insert into deliveries (id, webhook_id, tenant_id, order_id, event_source, event_id, status, url, body,
                                     event_type)
             select id, webhook_id, tenant_id, order_id, source, event_id, status, url, ($1::text[])[place], $2
             from (
                 select told.*, webhooks.url
                 from unnest($3::int[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[], $9::text[],
                             $10::text[]) with ordinality
                     as told (place, id, webhook_id, tenant_id, order_id, source, event_id, status, turn)
                     join webhooks on webhooks.id = told.webhook_id
                 order by turn
             ) as told
             on conflict do nothing returning id",
        )
        .bind(self.bodies)
        .bind(event_type)
        .bind(self.places)
        .bind(&self.ids)
        .bind(self.webhooks)
        .bind(self.tenants)
        .bind(self.orders)
        .bind(self.sources)
        .bind(self.events)
        .bind(self.statuses)
        .fetch_all(&mut *tx)
        .instrument(query_span("insert deliveries"))
        .await?
        .into_iter()
        .collect();
        let inserted = self.ids.into_iter().zip(self.metas).filter(|(id, _)| written.contains(id));
        let (jobs, metas): (Vec<_>, Vec<_>) = inserted
            .filter_map(|(delivery, meta)| Some((DeliverWebhook::first(delivery), meta?)))
            .unzip();
        if !jobs.is_empty() {
            jobs::enqueue_all(tx, jobs.iter().zip(metas)).await?;
        }
        Ok(())
    }
}

/// Returns the delivery of a job. Returns `None` if it was delivered, held or cancelled, or is in
/// another round than the job. Sets a failed delivery back to waiting.
pub(crate) async fn undelivered(
    pool: &PgPool,
    job: &DeliverWebhook,
) -> sqlx::Result<Option<Undelivered>> {
    sqlx::query_as(
        // Also writes a waiting row that is about to be sent: if the row is locked or the disk is
        // full, this fails, and not the record of the attempt. Otherwise it would be sent, and sent
        // again when its record is given up. It does not write the row while the webhook is paused,
        // because it is checked repeatedly then.
        "with revived as (
             update deliveries set status = 'waiting', failed_reason = null
             where id = $1 and round = coalesce($2, round)
                 and (status = 'failed' or status = 'waiting' and (failed_reason is not null or not exists (
                     select from webhooks where webhooks.id = webhook_id
                         and (webhooks.status = 'disabled' or paused_until > now())))))
         select webhook_id, round, url, body,
             (select secret from webhooks where webhooks.id = webhook_id) as secret,
             array(select secret from webhook_secrets
                   where webhook_secrets.webhook_id = deliveries.webhook_id and valid_until > now()
                   order by valid_until desc) as replaced_secrets,
             exists (select from webhooks where webhooks.id = webhook_id and webhooks.status = 'disabled') as is_disabled,
             (select greatest(extract(epoch from paused_until - now())::float8 * (1 + random() / 5),
                              $3 * (1 + random()))
              from webhooks where webhooks.id = webhook_id and paused_until > now()) as paused_for
         from deliveries
         where id = $1 and status in ('waiting', 'failed') and round = coalesce($2, round)",
    )
    .bind(job.delivery)
    .bind(job.round)
    .bind(SHORTEST_PAUSE.as_secs_f64())
    .fetch_optional(pool)
    .await
}

/// Cancels a delivery whose webhook was deleted.
pub(crate) async fn cancel(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    let cancelled = sqlx::query("update deliveries set status = 'cancelled' where id = $1");
    cancelled.bind(id).execute(pool).await?;
    Ok(())
}

/// Holds a delivery whose webhook is disabled. Returns `false` if the webhook was enabled
/// meanwhile, or if the delivery is not waiting in that round any more.
pub(crate) async fn hold(pool: &PgPool, id: Uuid, round: i32) -> sqlx::Result<bool> {
    let held = sqlx::query(
        // The webhook is locked before its delivery, as in all transactions.
        "with disabled as materialized (
             select id from webhooks
             where id = (select webhook_id from deliveries where id = $1) and status = 'disabled' for share)
         update deliveries set status = 'held' from disabled
         where deliveries.id = $1 and webhook_id = disabled.id and round = $2
             and deliveries.status in ('waiting', 'held')",
    );
    let held = held.bind(id).bind(round).execute(pool).await?;
    Ok(held.rows_affected() == 1)
}

/// Records an attempt; the last twenty are kept. If the target accepted it, the delivery becomes
/// `delivered` here and not when the job ends, because a job may end without an attempt. A
/// cancelled delivery stays cancelled. Returns `true` if the delivery is not delivered and its
/// webhook is disabled, unless another round has begun.
pub(crate) async fn attempted(
    tx: &mut PgConnection,
    id: Uuid,
    round: i32,
    attempt: &Attempt,
) -> sqlx::Result<bool> {
    let accepted = attempt.error.is_none();
    let is_to_hold: Option<bool> = sqlx::query_scalar(
        "update deliveries
         set attempts = jsonb_path_query_array(attempts, '$[last - 18 to last]') || $3,
             status = case when $4 and round = $2 and status <> 'cancelled' then 'delivered' else status end,
             delivered_at = case when $4 and round = $2 and status <> 'cancelled' then clock_timestamp()
                                 else delivered_at end
         where id = $1
         returning round = $2 and status in ('waiting', 'held') and exists (
             select from webhooks where webhooks.id = webhook_id and webhooks.status = 'disabled')",
    )
    .bind(id)
    .bind(round)
    .bind(Json(attempt))
    .bind(accepted)
    .fetch_optional(tx)
    .await?;
    Ok(is_to_hold.unwrap_or_default())
}

/// Records that the delivery of a job failed for good, unless another round has begun.
pub(crate) async fn fail(tx: &mut PgConnection, job: &DeliverWebhook) -> sqlx::Result<()> {
    sqlx::query(
        "update deliveries set status = 'failed'
         where id = $1 and round = coalesce($2, round) and status = 'waiting'",
    )
    .bind(job.delivery)
    .bind(job.round)
    .execute(tx)
    .await?;
    Ok(())
}

/// Returns the body of a delivery. Data that is too large is replaced by the order's id, with which
/// the tenant can read it.
fn body(event_type: &str, time: Option<&str>, data: &impl Serialize, order: OrderId) -> String {
    let whole = json!({ "type": event_type, "timestamp": time, "data": data }).to_string();
    if whole.len() <= MAX_BODY_BYTES {
        return whole;
    }
    let data = json!({ "order_id": order, "truncated": true });
    json!({ "type": event_type, "timestamp": time, "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_bounded_and_says_so() {
        let order = OrderId::new();
        let of =
            |size: usize| body("order.completed", None, &json!({ "x": "x".repeat(size) }), order);
        assert!(of(MAX_BODY_BYTES - 200).len() > MAX_BODY_BYTES - 200);
        let cut: serde_json::Value = serde_json::from_str(&of(MAX_BODY_BYTES)).unwrap();
        assert_eq!(cut["data"], json!({ "order_id": order, "truncated": true }));
    }
}
