//! Groups of letters with the same kind of failure, and their status.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, QueryBuilder};
use time::OffsetDateTime;

use super::page::{before, limit};
use super::{LettersError, Page};

/// Status of a group of letters, set by an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupStatus {
    /// Not acknowledged.
    Open,
    /// An operator works on it.
    Acknowledged,
    /// The group needs no work.
    Ignored,
}

impl GroupStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Ignored => "ignored",
        }
    }
}

/// Letters of one subscription, type and kind of failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct LetterGroup {
    /// Fingerprint of subscription, type and kind of failure.
    pub fingerprint: String,
    /// The consumer group, without the prefix.
    #[serde(rename = "group")]
    #[sqlx(rename = "subscription")]
    pub group: String,
    /// Type of the letters' events.
    pub event_type: Option<String>,
    /// Type of the error.
    pub exception: String,
    /// Message of the last failure.
    pub reason: String,
    /// `open`, `acknowledged` or `ignored`, as set by an operator; `resolved` if no letter is open;
    /// `regressed` if a letter died after another was resolved, until an operator sets it.
    pub status: String,
    /// An operator's note.
    pub note: Option<String>,
    /// Operator who wrote the note.
    pub by: Option<String>,
    /// Number of open letters: dead, parked or being replayed.
    pub open: i64,
    /// Number of parked letters.
    pub parked: i64,
    /// Number of letters that are being replayed.
    pub replaying: i64,
    /// Number of resolved letters.
    pub resolved: i64,
    /// Number of discarded letters.
    pub discarded: i64,
    /// Time of the first dead-lettering, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub first_at: OffsetDateTime,
    /// Time of the last dead-lettering, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
    #[serde(skip)]
    last: i64,
}

/// Counts first, and then reads the last letter of each group, so that little has to be sorted.
const COUNTED: &str = "select fingerprint, subscription,
           count(*) filter (where status in ('dead', 'parked', 'replaying')) as open,
           count(*) filter (where status = 'parked') as parked,
           count(*) filter (where status = 'replaying') as replaying,
           count(*) filter (where status = 'resolved') as resolved,
           count(*) filter (where status = 'discarded') as discarded,
           max(closed_at) filter (where status = 'resolved') as resolved_at,
           min(died_at) filter (where status in ('dead', 'parked', 'replaying')) as open_since,
           max(died_at) filter (where status in ('dead', 'parked', 'replaying')) as open_died_at,
           min(died_at) as first_at, max(died_at) as last_at, max(seq) as last
    from dead_letter where true";

const LISTED: &str = "select counted.fingerprint, counted.subscription, letter.event_type, letter.exception, letter.reason,
           case when open = 0 then 'resolved'
                when triage.status = 'ignored' then 'ignored'
                when open_died_at > resolved_at and coalesce(triage.set_at < greatest(resolved_at, open_since), true) then 'regressed'
                else coalesce(triage.status, 'open') end as status,
           triage.note, triage.set_by as by, open, parked, replaying, resolved, discarded, first_at, last_at, last
    from counted
    join dead_letter letter on letter.seq = last
    left join dead_letter_group triage on triage.fingerprint = counted.fingerprint
    order by last desc";

/// Lists groups of letters, the group with the latest letter first. `limit` is 1 to 1,000.
///
/// # Errors
/// Fails if the limit or the cursor is malformed, or the database is unavailable.
pub async fn letter_groups(
    pool: &PgPool,
    group: Option<&str>,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<LetterGroup>, LettersError> {
    let (limit, before) = (self::limit(limit)?, before(cursor)?);
    let mut query = QueryBuilder::new(format!("with counted as ({COUNTED}"));
    if let Some(group) = group {
        query.push(" and subscription = ").push_bind(group);
    }
    query.push(" group by fingerprint, subscription having max(seq) < ");
    query.push_bind(before);
    query.push(" order by max(seq) desc limit ").push_bind(limit + 1);
    query.push(format!(") {LISTED}"));
    let found = query.build_query_as().fetch_all(pool).await?;
    Ok(Page::of(found, limit, |it: &LetterGroup| it.last.to_string()))
}

/// Sets status and note of a group of letters. `by` is the operator's name.
///
/// # Errors
/// Fails if no letter has the fingerprint, or the database is unavailable.
pub async fn set_letter_group(
    pool: &PgPool,
    fingerprint: &str,
    status: GroupStatus,
    note: Option<&str>,
    by: &str,
) -> Result<LetterGroup, LettersError> {
    let unknown = || LettersError::NotFound(format!("there are no dead letters {fingerprint}"));
    let stored = sqlx::query(
        "insert into dead_letter_group (fingerprint, status, note, set_by)
         select $1, $2, $3, $4 where exists (select 1 from dead_letter where fingerprint = $1)
         on conflict (fingerprint) do update
             set status = excluded.status, note = excluded.note, set_by = excluded.set_by, set_at = clock_timestamp()",
    )
    .bind(fingerprint)
    .bind(status.as_str())
    .bind(note)
    .bind(by)
    .execute(pool)
    .await?;
    if stored.rows_affected() == 0 {
        return Err(unknown());
    }
    let mut query = QueryBuilder::new(format!("with counted as ({COUNTED} and fingerprint = "));
    query.push_bind(fingerprint);
    query.push(format!(" group by fingerprint, subscription) {LISTED}"));
    query.build_query_as().fetch_optional(pool).await?.ok_or_else(unknown)
}
