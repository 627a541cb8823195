//! The table `deliveries`: events that are delivered to webhooks, with their attempts.

use std::cell::LazyCell;
use std::collections::HashSet;

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

/// Maximum size of a body. It is kept once for each webhook.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// One attempt.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Attempt {
    /// Counts from 1, and anew after an operator's retry.
    #[serde(rename = "attempt")]
    pub(crate) number: u32,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
    pub(crate) ms: u64,
    /// Status of the response, if there was one.
    pub(crate) status: Option<u16>,
    /// Error, if the attempt failed.
    pub(crate) error: Option<String>,
}

/// A delivery that is still to be made.
#[derive(sqlx::FromRow)]
pub(crate) struct Undelivered {
    pub(crate) webhook_id: Uuid,
    pub(crate) url: String,
    pub(crate) body: String,
    /// `None` if the webhook was deleted.
    pub(crate) secret: Option<String>,
    /// Secrets that were replaced not long ago.
    pub(crate) replaced_secrets: Vec<String>,
    pub(crate) is_disabled: bool,
}

#[derive(sqlx::FromRow)]
struct Wanting {
    id: Uuid,
    tenant_id: String,
    url: String,
    is_disabled: bool,
}

#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    webhooks: Vec<Uuid>,
    tenants: Vec<String>,
    orders: Vec<Uuid>,
    sources: Vec<String>,
    events: Vec<String>,
    urls: Vec<String>,
    bodies: Vec<String>,
    statuses: Vec<&'static str>,
    /// `None` if its webhook is disabled.
    metas: Vec<Option<Meta>>,
}

/// Writes a delivery, with its job, for each event and webhook of its tenant, unless there is one already.
pub(crate) async fn write<E: OrderEvent>(
    tx: &mut PgConnection,
    events: &[Received<E>],
) -> Result<(), EnqueueError> {
    let tenants: Vec<_> = events.iter().map(|event| event.data.tenant_id().as_str()).collect();
    let wanting: Vec<Wanting> = sqlx::query_as(
        "select id, tenant_id, url, status = 'disabled' as is_disabled from webhooks
         where tenant_id = any($1) and $2 = any(events) order by id",
    )
    .bind(tenants)
    .bind(E::TYPE)
    .fetch_all(&mut *tx)
    .instrument(query_span("select webhooks"))
    .await?;
    if wanting.is_empty() {
        return Ok(());
    }
    let rows = rows(events, &wanting);
    let written = sqlx::query_scalar(
        "insert into deliveries (id, webhook_id, tenant_id, order_id, event_source, event_id, url, body, status,
                                 event_type)
         select *, $10 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[],
                                   $7::text[], $8::text[], $9::text[])
             as told (id, webhook_id, tenant_id, order_id, event_source, event_id, url, body, status)
         order by webhook_id, event_source, event_id
         on conflict do nothing returning id",
    )
    .bind(&rows.ids)
    .bind(rows.webhooks)
    .bind(rows.tenants)
    .bind(rows.orders)
    .bind(rows.sources)
    .bind(rows.events)
    .bind(rows.urls)
    .bind(rows.bodies)
    .bind(&rows.statuses)
    .bind(E::TYPE)
    .fetch_all(&mut *tx)
    .instrument(query_span("insert deliveries"))
    .await?;
    let written: HashSet<Uuid> = written.into_iter().collect();
    let told = rows.ids.into_iter().zip(rows.metas).filter(|(id, _)| written.contains(id));
    let (jobs, metas): (Vec<_>, Vec<_>) =
        told.filter_map(|(delivery, meta)| Some((DeliverWebhook { delivery }, meta?))).unzip();
    if !jobs.is_empty() {
        jobs::enqueue_all(tx, jobs.iter().zip(metas)).await?;
    }
    Ok(())
}

fn rows<E: OrderEvent>(events: &[Received<E>], wanting: &[Wanting]) -> Columns {
    let mut rows = Columns::default();
    for event in events {
        let (envelope, tenant) = (&event.envelope, event.data.tenant_id().as_str());
        // Written once, since all webhooks of an event are told the same.
        let text = LazyCell::new(|| {
            let time = envelope.time.unwrap_or_else(OffsetDateTime::now_utc).format(&Rfc3339);
            body(E::TYPE, time.ok().as_deref(), &*event.data, event.data.order_id())
        });
        for webhook in wanting.iter().filter(|webhook| webhook.tenant_id == tenant) {
            let id = Uuid::now_v7();
            rows.ids.push(id);
            rows.webhooks.push(webhook.id);
            rows.tenants.push(tenant.to_owned());
            rows.orders.push(event.data.order_id().0);
            rows.sources.push(envelope.source.clone());
            rows.events.push(envelope.id.to_string());
            rows.urls.push(webhook.url.clone());
            rows.bodies.push(text.clone());
            rows.statuses.push(if webhook.is_disabled { "held" } else { "waiting" });
            let order = event.data.order_id().to_string();
            let meta = meta(id, webhook.id, tenant).cause(&event.cause()).subject(order);
            rows.metas.push((!webhook.is_disabled).then_some(meta));
        }
    }
    rows
}

/// Returns a delivery that is not made yet, and `None` if it was made or cancelled. A failed one waits again.
pub(crate) async fn undelivered(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Undelivered>> {
    sqlx::query_as(
        "update deliveries set status = 'waiting'
         where id = $1 and status in ('waiting', 'failed')
         returning webhook_id, url, body,
             (select secret from webhooks where webhooks.id = webhook_id) as secret,
             array(select secret from webhook_secrets
                   where webhook_secrets.webhook_id = deliveries.webhook_id and valid_until > now()
                   order by valid_until desc) as replaced_secrets,
             exists (select from webhooks where webhooks.id = webhook_id and webhooks.status = 'disabled') as is_disabled",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// Cancels a delivery whose webhook was deleted.
pub(crate) async fn cancel(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    let cancelled = sqlx::query("update deliveries set status = 'cancelled' where id = $1");
    cancelled.bind(id).execute(pool).await?;
    Ok(())
}

/// Holds a delivery whose webhook is disabled.
pub(crate) async fn hold(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    let held =
        sqlx::query("update deliveries set status = 'held' where id = $1 and status = 'waiting'");
    held.bind(id).execute(pool).await?;
    Ok(())
}

/// Records an attempt, and keeps the last twenty.
pub(crate) async fn attempted(pool: &PgPool, id: Uuid, attempt: Attempt) -> sqlx::Result<()> {
    sqlx::query(
        "update deliveries set attempts = jsonb_path_query_array(attempts, '$[last - 18 to last]') || $2
         where id = $1",
    )
    .bind(id)
    .bind(Json(attempt))
    .execute(pool)
    .await?;
    Ok(())
}

/// Records that a delivery was made or has failed. A cancelled one stays cancelled.
pub(crate) async fn settle(tx: &mut PgConnection, id: Uuid, delivered: bool) -> sqlx::Result<()> {
    sqlx::query(
        "update deliveries
         set status = case when $2 then 'delivered' else 'failed' end,
             delivered_at = case when $2 then clock_timestamp() end
         where id = $1 and status = 'waiting'",
    )
    .bind(id)
    .bind(delivered)
    .execute(tx)
    .await?;
    Ok(())
}

/// Returns the body of a delivery. The data of an event that is too large for one is left out: it stands in what the tenant can
/// read by the order's id.
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
