//! The history of each order.

use consumer::Received;
use envelope::TenantId;
use events::{OrderEvent, OrderId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;

/// An event that was heard of an order.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Entry {
    #[serde(rename = "type")]
    event_type: String,
    version: Option<i64>,
    event_id: String,
    correlation_id: String,
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
}

/// Notes events, each once.
pub(crate) async fn note<E: OrderEvent>(
    tx: &mut PgConnection,
    events: &[Received<E>],
) -> sqlx::Result<()> {
    let envelopes = || events.iter().map(|event| &event.envelope);
    sqlx::query(
        "insert into history (order_id, tenant_id, version, source, event_id, correlation_id, at, event_type)
         select *, $8 from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                                  $7::timestamptz[])
             as told (order_id, tenant_id, version, source, event_id, correlation_id, at)
         order by order_id, source, event_id
         on conflict do nothing",
    )
    .bind(events.iter().map(|event| event.data.order_id().0).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.data.tenant_id().as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.version).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.source.as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.id.as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.correlation_id.as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.time).collect::<Vec<_>>())
    .bind(E::TYPE)
    .execute(tx)
    .instrument(query_span("insert history"))
    .await?;
    Ok(())
}

/// What was heard of an order of this tenant, in the order of its versions.
pub(crate) async fn of_order(
    pool: &PgPool,
    tenant: &TenantId,
    order: OrderId,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(
        "select event_type, version, event_id, correlation_id, at, received_at from history
         where order_id = $1 and tenant_id = $2 order by version, at, event_id",
    )
    .bind(order.0)
    .bind(tenant.as_str())
    .fetch_all(pool)
    .await
}
