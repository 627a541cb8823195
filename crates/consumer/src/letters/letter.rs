//! Letters as shown to operators.

use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use super::page::{before, limit};
use super::{LetterFilter, LettersError, Page};

/// The columns of a [`LetterSummary`].
pub(super) const SUMMARY: &str = r#"seq, id, subscription, event_id, event_type, source, subject, tenant, correlation_id,
    topic, partition, "offset", reason, exception, fingerprint, status, outcome, replays, died_at, closed_at,
    coalesce(expires_at < clock_timestamp(), false) as is_expired, edited_at is not null as is_edited,
    erased_at is not null as is_erased"#;

/// A dead letter without its content.
#[derive(Clone, PartialEq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct LetterSummary {
    #[serde(skip)]
    pub(super) seq: i64,
    /// Id.
    pub id: Uuid,
    /// The consumer group that could not process it, without the prefix.
    #[serde(rename = "group")]
    #[sqlx(rename = "subscription")]
    pub group: String,
    /// Id of its event. `None` if the record can't be decoded, as for the next fields.
    pub event_id: Option<String>,
    /// Type of its event.
    pub event_type: Option<String>,
    /// Source of its event.
    pub source: Option<String>,
    /// Subject of its event.
    pub subject: Option<String>,
    /// Tenant of its event.
    pub tenant: Option<String>,
    /// Correlation id of its event.
    pub correlation_id: Option<String>,
    /// Original topic: name on the cluster.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Message of its last failure.
    pub reason: String,
    /// Type of the error.
    pub exception: String,
    /// Equal for letters of one group, type and kind of failure.
    pub fingerprint: String,
    /// See [`LetterStatus`](super::LetterStatus).
    pub status: String,
    /// Outcome of the last replay: `processed`, `duplicate`, `superseded`, `ignored`, `failed`, or
    /// `held` because a letter of the same key failed.
    pub outcome: Option<String>,
    /// Number of failed replays.
    pub replays: i32,
    /// Time of the dead-lettering, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub died_at: OffsetDateTime,
    /// Time of the resolution or the discarding, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub closed_at: Option<OffsetDateTime>,
    /// `true` if the inbox may no longer have the event, so that only `force` replays the letter.
    pub is_expired: bool,
    /// `true` if an operator changed the value.
    pub is_edited: bool,
    /// `true` if the content was erased.
    pub is_erased: bool,
}

/// A dead letter with its content.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Letter {
    /// The part that lists show.
    #[serde(flatten)]
    pub summary: LetterSummary,
    /// Key of the record.
    pub key: Option<Bytes>,
    /// Value of the record, as a replay passes it to the handler.
    pub value: Option<Bytes>,
    /// Headers of the record, in their order.
    pub headers: Vec<Header>,
    /// The last failure's chain of causes, one per line.
    pub causes: String,
    /// Every failure, the first one first: `at`, `exception`, `message`, `causes`, `replay`.
    pub attempts: Value,
    /// The last change of its value.
    pub edit: Option<Edit>,
    /// Trace context in which its event was created (W3C Trace Context).
    pub traceparent: Option<String>,
}

/// A header of a record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Option<Bytes>,
}

/// A change of a letter's value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Edit {
    /// Name of the operator.
    pub by: String,
    /// The reason that was given.
    pub why: String,
    /// Time of the change, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Consumed value.
    pub before: Option<Bytes>,
}

/// Bytes as JSON: `{"text": ..}` if they are UTF-8, else `{"base64": ..}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum AsJson<'a> {
    Text(&'a str),
    Base64(String),
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        let json = std::str::from_utf8(&self.0).map_or_else(
            |_| AsJson::Base64(base64::engine::general_purpose::STANDARD.encode(&self.0)),
            AsJson::Text,
        );
        json.serialize(serializer)
    }
}

#[derive(FromRow)]
struct Row {
    #[sqlx(flatten)]
    summary: LetterSummary,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header_names: Vec<String>,
    header_values: Vec<Option<Vec<u8>>>,
    causes: String,
    attempts: Json<Value>,
    traceparent: Option<String>,
    edited_by: Option<String>,
    edited_why: Option<String>,
    edited_at: Option<OffsetDateTime>,
    value_before: Option<Vec<u8>>,
}

impl From<Row> for Letter {
    fn from(row: Row) -> Self {
        let headers = row.header_names.into_iter().zip(row.header_values);
        let header =
            |(name, value): (String, Option<Vec<u8>>)| Header { name, value: value.map(Bytes) };
        let edit = row.edited_at.map(|at| Edit {
            by: row.edited_by.unwrap_or_default(),
            why: row.edited_why.unwrap_or_default(),
            at,
            before: row.value_before.map(Bytes),
        });
        Self {
            summary: row.summary,
            key: row.key.map(Bytes),
            value: row.value.map(Bytes),
            headers: headers.into_iter().map(header).collect(),
            causes: row.causes,
            attempts: row.attempts.0,
            edit,
            traceparent: row.traceparent,
        }
    }
}

/// Lists dead letters of a group, or of all groups in this database, newest first. `limit` is 1 to
/// 1,000.
///
/// # Errors
/// Fails if the limit or the cursor is malformed, or the database is unavailable.
pub async fn letters(
    pool: &PgPool,
    group: Option<&str>,
    filter: &LetterFilter,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<LetterSummary>, LettersError> {
    let (limit, before) = (self::limit(limit)?, before(cursor)?);
    let mut query = QueryBuilder::new(format!("select {SUMMARY} from dead_letter where seq < "));
    query.push_bind(before);
    if let Some(group) = group {
        query.push(" and subscription = ").push_bind(group);
    }
    filter.constrain(&mut query);
    query.push(" order by seq desc limit ").push_bind(limit + 1);
    let found = query.build_query_as().fetch_all(pool).await?;
    Ok(Page::of(found, limit, |last: &LetterSummary| last.seq.to_string()))
}

/// Returns a dead letter with its content.
///
/// # Errors
/// Fails if the id is unknown, or the database is unavailable.
pub async fn letter(pool: &PgPool, id: Uuid) -> Result<Letter, LettersError> {
    let mut query = QueryBuilder::new(format!(
        "select {SUMMARY}, key, value, header_names, header_values, causes, attempts, traceparent,
                edited_by, edited_why, edited_at, value_before
         from dead_letter where id = "
    ));
    let found: Option<Row> = query.push_bind(id).build_query_as().fetch_optional(pool).await?;
    found.map(Letter::from).ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: Uuid) -> LettersError {
    LettersError::NotFound(format!("there is no dead letter {id}"))
}
