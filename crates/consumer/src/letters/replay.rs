//! Replays as shown to and controlled by operators.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor, PgPool, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use super::bulk;
use super::page::{before, limit, malformed};
use super::settling::{self, COUNTED};
use super::{LettersError, Page};

/// Maximum number of failure reasons returned.
const MAX_REASONS: i64 = 20;

const COLUMNS: &str = "it.id, it.subscription, it.rehearsal, it.status, it.selected, it.rate, it.ramp, it.stop_after, it.force,
    it.requested_by, it.why, it.note, it.requested_at, it.started_at, it.ended_at";

/// Number of letters of a replay by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReplayOutcomes {
    /// Letters that the handler applied.
    pub processed: i64,
    /// Letters that were duplicates.
    pub duplicate: i64,
    /// Letters with an older version than the applied one.
    pub superseded: i64,
    /// Letters of a type that the subscription ignores.
    pub ignored: i64,
    /// Letters that failed again.
    pub failed: i64,
    /// Letters that were not attempted, because an earlier letter of their key failed.
    pub held: i64,
}

/// A replay or a rehearsal.
#[derive(Clone, PartialEq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct Replay {
    /// Id of the replay.
    pub id: Uuid,
    /// The consumer group, without the prefix.
    #[serde(rename = "group")]
    #[sqlx(rename = "subscription")]
    pub group: String,
    /// `true` for a rehearsal.
    pub rehearsal: bool,
    /// `queued`, `running`, `paused`, `cancelled` or `done`.
    pub status: String,
    /// Number of letters in the replay.
    pub selected: i64,
    /// Outcomes so far.
    #[sqlx(json)]
    pub outcomes: ReplayOutcomes,
    /// Letters a second.
    pub rate: Option<f64>,
    /// See [`NewReplay::ramp`](super::NewReplay).
    pub ramp: bool,
    /// See there.
    pub stop_after: Option<i32>,
    /// See there.
    pub force: bool,
    /// Name of the operator.
    #[serde(rename = "by")]
    #[sqlx(rename = "requested_by")]
    pub by: String,
    /// The reason that was given.
    pub why: Option<String>,
    /// Reason of the pause or the cancellation.
    pub note: Option<String>,
    /// Time of the request, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub requested_at: OffsetDateTime,
    /// Time of the first start, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// Time of the end or the cancellation, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// A replay with the reasons of its failures.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplayDetails {
    /// The replay.
    #[serde(flatten)]
    pub replay: Replay,
    /// The most frequent reasons, 20 at most.
    pub failures: Vec<ReplayFailures>,
}

/// Letters of a replay that failed for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
pub struct ReplayFailures {
    /// Reason of the failures.
    pub reason: String,
    /// Number of letters.
    pub letters: i64,
}

/// A letter as part of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, FromRow)]
#[non_exhaustive]
pub struct ReplayedLetter {
    #[serde(skip)]
    seq: i64,
    /// Id of the letter.
    pub id: Uuid,
    /// Id of its event.
    pub event_id: Option<String>,
    /// Subject of its event.
    pub subject: Option<String>,
    /// Outcome. `None` while pending.
    pub outcome: Option<String>,
    /// Reason of the failure.
    pub reason: Option<String>,
    /// Time at which the outcome was recorded, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub settled_at: Option<OffsetDateTime>,
}

/// Lists replays of a group, or of all groups in this database, newest first. `limit` is 1 to
/// 1,000.
///
/// # Errors
/// Fails if the limit or the cursor is malformed, or the database is unavailable.
pub async fn replays(
    pool: &PgPool,
    group: Option<&str>,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<Replay>, LettersError> {
    let limit = self::limit(limit)?;
    let before: Option<Uuid> = cursor.map(|it| it.parse().map_err(|_| malformed())).transpose()?;
    // Ids ascend with time.
    let columns = columns();
    let mut query = QueryBuilder::new(format!(
        "select {columns} from (select * from dead_letter_replay where true"
    ));
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before);
    }
    if let Some(group) = group {
        query.push(" and subscription = ").push_bind(group);
    }
    query.push(" order by id desc limit ").push_bind(limit + 1).push(") it order by it.id desc");
    let found = query.build_query_as().fetch_all(pool).await?;
    Ok(Page::of(found, limit, |it: &Replay| it.id.to_string()))
}

pub(super) async fn find(executor: impl PgExecutor<'_>, id: Uuid) -> Result<Replay, LettersError> {
    let columns = columns();
    let mut query =
        QueryBuilder::new(format!("select {columns} from dead_letter_replay it where it.id = "));
    let found = query.push_bind(id).build_query_as();
    found.fetch_optional(executor).await?.ok_or_else(|| unknown(id))
}

/// Returns the columns of a [`Replay`]. Letters are counted only if no outcomes are stored, since a
/// replay may have hundreds of thousands.
fn columns() -> String {
    format!("{COLUMNS}, coalesce(it.outcomes, {COUNTED}) as outcomes")
}

fn unknown(id: Uuid) -> LettersError {
    LettersError::NotFound(format!("there is no replay {id}"))
}

/// Returns a replay.
///
/// # Errors
/// Fails if the id is unknown, or the database is unavailable.
pub async fn replay(pool: &PgPool, id: Uuid) -> Result<ReplayDetails, LettersError> {
    let replay = find(pool, id).await?;
    let failures = sqlx::query_as(
        "select coalesce(reason, '') as reason, count(*) as letters from dead_letter_replay_item
         where replay = $1 and outcome = 'failed' group by 1 order by 2 desc, 1 limit $2",
    );
    let failures = failures.bind(id).bind(MAX_REASONS).fetch_all(pool).await?;
    Ok(ReplayDetails { replay, failures })
}

/// Lists the letters of a replay with their outcomes, oldest first. `limit` is 1 to 1,000.
///
/// # Errors
/// Fails if the id is unknown, the outcome, the limit or the cursor is malformed, or the database
/// is unavailable.
pub async fn replayed_letters(
    pool: &PgPool,
    id: Uuid,
    outcome: Option<&str>,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<ReplayedLetter>, LettersError> {
    const OUTCOMES: [&str; 6] =
        ["processed", "duplicate", "superseded", "ignored", "failed", "held"];
    if outcome.is_some_and(|outcome| !OUTCOMES.contains(&outcome)) {
        let all = OUTCOMES.join(", ");
        return Err(LettersError::Unprocessable(format!("outcome must be one of {all}")));
    }
    let limit = self::limit(limit)?;
    let after = if cursor.is_some() { before(cursor)? } else { 0 };
    find(pool, id).await?;
    let found = sqlx::query_as(
        "select seq, id, event_id, subject, item.outcome, item.reason, item.settled_at
         from dead_letter_replay_item item join dead_letter on seq = letter
         where replay = $1 and letter > $2 and ($3::text is null or item.outcome = $3)
         order by letter limit $4",
    )
    .bind(id)
    .bind(after)
    .bind(outcome)
    .bind(limit + 1)
    .fetch_all(pool)
    .await?;
    Ok(Page::of(found, limit, |it: &ReplayedLetter| it.seq.to_string()))
}

/// Pauses a queued or running replay. Current attempts are rolled back. `by` is the operator's
/// name.
///
/// # Errors
/// Fails if the id is unknown, the replay is in another state, or the database is unavailable.
pub async fn pause_replay(pool: &PgPool, id: Uuid, by: &str) -> Result<Replay, LettersError> {
    let steer = StatusChange {
        to: "paused",
        from: &["queued", "running"],
        note: Some(format!("paused by {by}")),
    };
    steer.carry_out(pool, id).await
}

/// Resumes a paused replay.
///
/// # Errors
/// Fails if the id is unknown, the replay is not paused, or the database is unavailable.
pub async fn resume_replay(pool: &PgPool, id: Uuid) -> Result<Replay, LettersError> {
    StatusChange { to: "queued", from: &["paused"], note: None }.carry_out(pool, id).await
}

/// Cancels a replay. Letters that were replayed stay replayed; the others get their previous
/// status. `by` is the operator's name.
///
/// # Errors
/// Fails if the id is unknown, the replay has ended, or the database is unavailable.
pub async fn cancel_replay(pool: &PgPool, id: Uuid, by: &str) -> Result<Replay, LettersError> {
    let from = &["queued", "running", "paused"];
    StatusChange { to: "cancelled", from, note: Some(format!("cancelled by {by}")) }
        .carry_out(pool, id)
        .await
}

struct StatusChange {
    to: &'static str,
    from: &'static [&'static str],
    note: Option<String>,
}

impl StatusChange {
    async fn carry_out(self, pool: &PgPool, id: Uuid) -> Result<Replay, LettersError> {
        let mut tx = bulk::begin(pool).await?;
        // Waits for a batch that is being committed. A batch that commits later finds that it must
        // not.
        let changed = sqlx::query(
            "update dead_letter_replay
             set status = $2, note = $4, leased_by = null, leased_until = null,
                 ended_at = case when $2 = 'cancelled' then clock_timestamp() end
             where id = $1 and status = any($3)",
        )
        .bind(id)
        .bind(self.to)
        .bind(self.from)
        .bind(self.note)
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 0 {
            let status = find(&mut *tx, id).await?.status;
            return Err(LettersError::Conflict(format!("the replay is {status}")));
        }
        settling::forget_begun(&mut tx, id).await?;
        if self.to == "cancelled" {
            settling::release(&mut tx, id).await?;
            settling::keep_outcomes(&mut tx, id).await?;
        }
        let replay = find(&mut *tx, id).await?;
        tx.commit().await?;
        Ok(replay)
    }
}
