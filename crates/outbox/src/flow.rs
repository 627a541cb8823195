//! Events of a flow that wait to be published.

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

/// Maximum number of events.
const MAX_EVENTS: i64 = 50;
/// Maximum number of rows to search. The table holds only waiting events, and an index would cost
/// time for every event.
const SEARCHED: i64 = 20_000;

/// An event of a flow that waits to be published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct WaitingEvent {
    /// Correlation id.
    #[serde(skip)]
    pub correlation_id: Option<String>,
    /// Id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Topic, without the prefix.
    pub topic: String,
    /// Time of the insertion, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// Events of flows that wait to be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingEvents {
    /// Oldest first, at most 50.
    pub events: Vec<WaitingEvent>,
    /// `true` if more events wait than the 20,000 that were searched.
    pub is_partial: bool,
}

/// Returns the events of flows that wait to be published, and those with the id or about it.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn waiting_of_flow(
    pool: &PgPool,
    id: &str,
    correlation_ids: &[String],
) -> sqlx::Result<WaitingEvents> {
    let events = sqlx::query_as(
        "select correlation_id, event_id, event_type, topic, created_at as since
         from (select id, topic, created_at, headers ->> 'ce_correlationid' as correlation_id,
                   headers ->> 'ce_id' as event_id, headers ->> 'ce_type' as event_type,
                   headers ->> 'ce_subject' as subject
               from (select * from outbox order by id limit $3) oldest
               -- Most rows are none of the flow, and reading their JSON takes ten times as long as this.
               where key = $1 or headers::text like any (array(
                   select '%' || replace(replace(replace(to_json(it)::text, '\\', '\\\\'), '%', '\\%'), '_', '\\_') || '%'
                   from unnest($1 || $2) it))
         ) candidate
         where correlation_id = any($2) or event_id = $1 or subject = $1
         order by id limit $4",
    )
    .bind(id)
    .bind(correlation_ids)
    .bind(SEARCHED)
    .bind(MAX_EVENTS)
    .fetch_all(pool)
    .await?;
    let waiting: i64 =
        sqlx::query_scalar("select count(*) from (select from outbox limit $1) waiting")
            .bind(SEARCHED + 1)
            .fetch_one(pool)
            .await?;
    Ok(WaitingEvents { events, is_partial: waiting > SEARCHED })
}
