//! Reads the rows of a flow from the consumer's tables: letters, replays, parked messages, inbox
//! rows.

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Maximum numbers of rows.
const MAX_LETTERS: i64 = 100;
const MAX_REPLAYS: i64 = 150;
const MAX_PARKED: i64 = 50;
/// Maximum number of pairs of subscription and source that the inbox is searched for.
const MAX_SOURCES: i64 = 200;

/// A dead letter of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct FlowLetter {
    /// Correlation id of its event.
    #[serde(skip)]
    pub correlation_id: Option<String>,
    /// Id.
    pub letter_id: Uuid,
    /// The consumer group, without the prefix.
    pub group: String,
    /// Id of its event. `None` if the record can't be decoded, as for the next field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Type of its event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// See [`LetterStatus`](crate::LetterStatus).
    pub status: String,
    /// Outcome of its last replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Message of its last failure.
    pub reason: String,
    /// Number of failures, replays included.
    pub failures: i32,
    /// Time of the dead-lettering, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// A replay or a rehearsal of a dead letter of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct FlowReplay {
    /// Id.
    pub replay_id: Uuid,
    /// The consumer group, without the prefix.
    pub group: String,
    /// `queued`, `running`, `paused`, `cancelled` or `done`.
    pub status: String,
    /// `true` for a rehearsal.
    pub rehearsal: bool,
    /// Name of the operator.
    pub by: String,
    /// The reason that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Time of the request, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Id of the letter.
    pub letter_id: Uuid,
    /// Outcome of the letter in this replay. `None` while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// A message of a flow that failed and is to be attempted again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct ParkedMessage {
    /// Correlation id of its event.
    #[serde(skip)]
    pub correlation_id: Option<String>,
    /// The consumer group, without the prefix.
    pub group: String,
    /// Topic: name on the cluster.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Id of its event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Number of failed attempts.
    pub failures: i32,
    /// Start or end of the last attempt, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Message of its last failure. `None` if no attempt is known to have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An event that a subscription has settled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct InboxEntry {
    /// The consumer group, without the prefix.
    pub group: String,
    /// Id of the event.
    pub event_id: String,
    /// Time of the commit of the effect, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
}

/// Returns the dead letters of flows, and those whose event or subject has the id, oldest first, at
/// most 100.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn flow_letters(
    pool: &PgPool,
    id: &str,
    correlation_ids: &[String],
) -> sqlx::Result<Vec<FlowLetter>> {
    sqlx::query_as(
        r#"with found as materialized (
               select seq from dead_letter where correlation_id = any($2) or event_id = $1 or subject = $1
           )
           select correlation_id, id as letter_id, subscription as "group", event_id, event_type, status, outcome,
               reason, jsonb_array_length(attempts) as failures, died_at as since
           from found join dead_letter using (seq) order by seq limit $3"#,
    )
    .bind(id)
    .bind(correlation_ids)
    .bind(MAX_LETTERS)
    .fetch_all(pool)
    .await
}

/// Returns the replays and rehearsals of letters, oldest first. Of more than 150, replays are kept
/// before rehearsals, and later ones before earlier ones.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn flow_replays(pool: &PgPool, letters: &[Uuid]) -> sqlx::Result<Vec<FlowReplay>> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        r#"select replay_id, "group", status, rehearsal, by, why, since, letter_id, outcome from (
               select it.id as replay_id, it.subscription as "group", it.status, it.rehearsal, it.requested_by as by,
                   it.why, it.requested_at as since, letter.id as letter_id, item.outcome, letter.seq
               from dead_letter letter
                   join dead_letter_replay_item item on item.letter = letter.seq
                   join dead_letter_replay it on it.id = item.replay
               where letter.id = any($1) order by it.rehearsal, it.id desc, letter.seq limit $2) kept
           order by replay_id, seq"#,
    )
    .bind(letters)
    .bind(MAX_REPLAYS)
    .fetch_all(pool)
    .await
}

/// Returns the parked messages of flows, and those whose event or subject has the id, at most 50.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn flow_parked(
    pool: &PgPool,
    id: &str,
    correlation_ids: &[String],
) -> sqlx::Result<Vec<ParkedMessage>> {
    sqlx::query_as(
        r#"select correlation_id, subscription as "group", topic, partition, "offset", event_id,
               jsonb_array_length(failures) as failures, last_at as since, reason as error
           from attempt where correlation_id = any($2) or event_id = $1 or subject = $1
           order by last_at limit $3"#,
    )
    .bind(id)
    .bind(correlation_ids)
    .bind(MAX_PARKED)
    .fetch_all(pool)
    .await
}

/// Returns which subscriptions have settled which of these events, from any source.
///
/// The inbox is indexed by subscription, source and event. The query steps from source to source,
/// of which there are few, so it is as fast with ten million rows as with none.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn inbox_entries(pool: &PgPool, event_ids: &[String]) -> sqlx::Result<Vec<InboxEntry>> {
    if event_ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        r#"with recursive origin as (
               (select subscription, source from inbox order by subscription, source limit 1)
               union all
               select next.subscription, next.source from origin cross join lateral (
                   select subscription, source from inbox
                   where (inbox.subscription, inbox.source) > (origin.subscription, origin.source)
                   order by subscription, source limit 1) next
           ), known as materialized (select * from origin limit $2)
           select known.subscription as "group", asked.event_id, entry.received_at
           from known cross join unnest($1::text[]) asked (event_id) cross join lateral (
               select received_at from inbox
               where inbox.subscription = known.subscription and inbox.source = known.source
                 and inbox.event_id = asked.event_id
               limit 1) entry
           order by entry.received_at"#,
    )
    .bind(event_ids)
    .bind(MAX_SOURCES)
    .fetch_all(pool)
    .await
}
