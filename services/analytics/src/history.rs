//! The history of each order.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::CursorKey;
use consumer::Received;
use envelope::{EventId, TenantId};
use events::{OrderEvent, OrderId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;

/// An event of an order.
#[derive(sqlx::FromRow, Serialize, ToSchema)]
pub(crate) struct Entry {
    #[serde(skip)]
    source: String,
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

/// Records events, each once.
pub(crate) async fn note<E: OrderEvent>(
    tx: &mut PgConnection,
    events: &[Received<E>],
) -> sqlx::Result<()> {
    let envelopes = || events.iter().map(|event| &event.envelope);
    let causations: Vec<_> =
        envelopes().map(|envelope| envelope.causation_id.as_ref().map(EventId::as_str)).collect();
    sqlx::query(
        "insert into history
             (order_id, tenant_id, version, source, event_id, correlation_id, causation_id, at, event_type)
         select *, $9 from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                                  $7::text[], $8::timestamptz[])
             as told (order_id, tenant_id, version, source, event_id, correlation_id, causation_id, at)
         order by order_id, source, event_id
         on conflict do nothing",
    )
    .bind(events.iter().map(|event| event.data.order_id().0).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.data.tenant_id().as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.version).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.source.as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.id.as_str()).collect::<Vec<_>>())
    .bind(envelopes().map(|envelope| envelope.correlation_id.as_str()).collect::<Vec<_>>())
    .bind(causations)
    .bind(envelopes().map(|envelope| envelope.time.map(pg::in_utc)).collect::<Vec<_>>())
    .bind(E::TYPE)
    .execute(tx)
    .instrument(query_span("insert history"))
    .await?;
    Ok(())
}

impl Entry {
    pub(crate) fn key(&self) -> EntryKey {
        EntryKey { source: self.source.clone(), event_id: self.event_id.clone() }
    }
}

/// Key of an entry in an order's history, at which a page begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EntryKey {
    source: String,
    event_id: String,
}

/// Source and id are texts of the event's producer. They may contain any characters but line
/// breaks.
impl CursorKey for EntryKey {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}\n{}", self.source, self.event_id))
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (source, event_id) = text.split_once('\n').filter(|_| !text.contains('\0'))?;
        Some(Self { source: source.to_owned(), event_id: event_id.to_owned() })
    }
}

/// Returns the events of an order of this tenant in the order of its versions, after an entry or
/// from the beginning. Events without a version come last.
///
/// An invoice has the version of the change that caused it, but the clock of another machine. So
/// within a version, events caused by an event follow those caused by a request, and times compare
/// only within either group.
pub(crate) async fn of_order(
    pool: &PgPool,
    tenant: &TenantId,
    order: OrderId,
    after: Option<EntryKey>,
    rows: i64,
) -> sqlx::Result<Vec<Entry>> {
    let (source, event_id) = after.map(|it| (it.source, it.event_id)).unzip();
    sqlx::query_as(
        "with entry as (
             select *, coalesce(version, 9223372036854775807) as nth, coalesce(at, 'infinity') as happened_at,
                    version is not null and causation_id is not null as is_effect
             from history where order_id = $1 and tenant_id = $2
         )
         select source, event_type, version, event_id, correlation_id, at, received_at from entry
         where $3::text is null
            or (nth, is_effect, happened_at, event_id, source) >
               (select nth, is_effect, happened_at, event_id, source from entry
                where source = $3 and event_id = $4)
         order by nth, is_effect, happened_at, event_id, source limit $5",
    )
    .bind(order.0)
    .bind(tenant.as_str())
    .bind(source)
    .bind(event_id)
    .bind(rows)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let key = EntryKey { source: "/order".into(), event_id: "grüße 1/?&".into() };
        assert_eq!(EntryKey::from_text(&key.to_text()), Some(key));
        for text in ["", "x", "%", &URL_SAFE_NO_PAD.encode("no line break")] {
            assert_eq!(EntryKey::from_text(text), None, "{text}");
        }
    }
}
