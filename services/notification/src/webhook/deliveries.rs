//! The table `deliveries`: events that are delivered to webhooks, with their attempts.

use consumer::Received;
use envelope::TenantId;
use events::{OrderEvent, OrderId};
use jobs::{EnqueueError, Meta};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, Row};
use telemetry::query_span;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Instrument;
use uuid::Uuid;

use super::deliver_webhook::DeliverWebhook;

/// A delivery as a tenant sees it.
#[derive(Serialize)]
pub(crate) struct Delivery {
    /// The `webhook-id` of all its attempts.
    id: Uuid,
    webhook_id: Uuid,
    #[serde(rename = "type")]
    event_type: String,
    url: String,
    status: String,
    attempts: Vec<Attempt>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    delivered_at: Option<OffsetDateTime>,
}

/// One attempt.
#[derive(Serialize, Deserialize)]
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

impl FromRow<'_, PgRow> for Delivery {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(attempts) = row.try_get("attempts")?;
        Ok(Self {
            id: row.try_get("id")?,
            webhook_id: row.try_get("webhook_id")?,
            event_type: row.try_get("event_type")?,
            url: row.try_get("url")?,
            status: row.try_get("status")?,
            attempts,
            created_at: row.try_get("created_at")?,
            delivered_at: row.try_get("delivered_at")?,
        })
    }
}

/// A delivery that is still to be made.
#[derive(sqlx::FromRow)]
pub(crate) struct Undelivered {
    pub(crate) url: String,
    pub(crate) body: String,
    /// `None` if the webhook was deleted.
    pub(crate) secret: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Wanting {
    id: Uuid,
    tenant_id: String,
    url: String,
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
    metas: Vec<Meta>,
}

/// Writes a delivery, with its job, for each event and webhook of its tenant, unless there is one already.
pub(crate) async fn write<E: OrderEvent>(
    tx: &mut PgConnection,
    events: &[Received<E>],
) -> Result<(), EnqueueError> {
    let tenants: Vec<_> = events.iter().map(|event| event.data.tenant_id().as_str()).collect();
    let wanting: Vec<Wanting> = sqlx::query_as(
        "select id, tenant_id, url from webhooks
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
    let written: Vec<Uuid> = sqlx::query_scalar(
        "insert into deliveries (id, webhook_id, tenant_id, order_id, event_source, event_id, url, body, event_type)
         select *, $9 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[],
                                  $7::text[], $8::text[])
             as told (id, webhook_id, tenant_id, order_id, event_source, event_id, url, body)
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
    .bind(E::TYPE)
    .fetch_all(&mut *tx)
    .instrument(query_span("insert deliveries"))
    .await?;
    let told = rows.ids.into_iter().zip(rows.metas).filter(|(id, _)| written.contains(id));
    let (jobs, metas): (Vec<_>, Vec<_>) =
        told.map(|(delivery, meta)| (DeliverWebhook { delivery }, meta)).unzip();
    if !jobs.is_empty() {
        jobs::enqueue_all(tx, jobs.iter().zip(metas)).await?;
    }
    Ok(())
}

fn rows<E: OrderEvent>(events: &[Received<E>], wanting: &[Wanting]) -> Columns {
    let mut rows = Columns::default();
    for event in events {
        let (envelope, tenant) = (&event.envelope, event.data.tenant_id().as_str());
        for webhook in wanting.iter().filter(|webhook| webhook.tenant_id == tenant) {
            let time = envelope.time.unwrap_or_else(OffsetDateTime::now_utc).format(&Rfc3339);
            let body = json!({ "type": E::TYPE, "timestamp": time.ok(), "data": *event.data });
            rows.ids.push(Uuid::now_v7());
            rows.webhooks.push(webhook.id);
            rows.tenants.push(tenant.to_owned());
            rows.orders.push(event.data.order_id().0);
            rows.sources.push(envelope.source.clone());
            rows.events.push(envelope.id.to_string());
            rows.urls.push(webhook.url.clone());
            rows.bodies.push(body.to_string());
            let order = event.data.order_id().to_string();
            rows.metas.push(Meta::new().cause(&event.cause()).subject(order));
        }
    }
    rows
}

/// Returns a delivery that is not made yet, and `None` if it was made or cancelled. A failed one waits again.
pub(crate) async fn undelivered(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Undelivered>> {
    sqlx::query_as(
        "update deliveries set status = 'waiting'
         where id = $1 and status in ('waiting', 'failed')
         returning url, body, (select secret from webhooks where webhooks.id = webhook_id) as secret",
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

/// Lists the deliveries of an order of this tenant.
pub(crate) async fn of_order(
    pool: &PgPool,
    tenant: &TenantId,
    order: OrderId,
) -> sqlx::Result<Vec<Delivery>> {
    sqlx::query_as(
        "select id, webhook_id, event_type, url, status, attempts, created_at, delivered_at
         from deliveries where order_id = $1 and tenant_id = $2 order by id",
    )
    .bind(order.0)
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await
}
