//! Requests for replays and rehearsals.

use std::sync::Arc;

use kafka::Settings;
use sqlx::{PgPool, Postgres, QueryBuilder, Transaction};
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use super::bulk;
use super::replay::{Replay, find};
use super::status::all_known;
use super::{LettersError, Selection};
use crate::subscription::Subscription;

/// The lowest rate: about one letter in a quarter of an hour.
const LEAST_RATE: f64 = 0.001;

/// The dead letters of a subscription of this process. Clones share it.
#[derive(Clone)]
pub struct Letters {
    pub(super) pool: PgPool,
    pub(super) subscription: Arc<Subscription>,
    pub(super) kafka: Settings,
    /// Wakes the task that runs replays.
    requested: Arc<Notify>,
}

/// Request for a replay or rehearsal.
#[derive(Clone, PartialEq, Debug)]
pub struct NewReplay {
    /// The letters, fixed at the time of the request: later letters are not included.
    pub selection: Selection,
    /// Rolls back: only reports what would happen.
    pub rehearse: bool,
    /// Letters per second. `None` is as fast as possible.
    pub rate: Option<f64>,
    /// Replays in steps of 1, 10, 100, .. letters, and pauses after a step with a failure.
    pub ramp: bool,
    /// Pauses after this number of failures.
    pub stop_after: Option<u32>,
    /// Includes parked and expired letters. A rehearsal of [ids](Selection::Ids) always does.
    pub force: bool,
    /// Name of the operator.
    pub by: String,
    /// The reason that was given.
    pub why: Option<String>,
}

impl Letters {
    pub(crate) fn new(
        pool: PgPool,
        subscription: Arc<Subscription>,
        kafka: Settings,
        requested: Arc<Notify>,
    ) -> Self {
        Self { pool, subscription, kafka, requested }
    }

    /// Returns the consumer group, without the prefix.
    pub fn group(&self) -> String {
        self.subscription.group()
    }

    /// Requests a replay. An instance of the subscription runs it after all earlier requests. Its
    /// letters are `replaying` until it ends, so that no other replay includes them.
    ///
    /// # Errors
    /// Fails if the rate or the limit is malformed, an id is unknown or can't be replayed, no
    /// letter is selected, or the database is unavailable.
    pub async fn request(&self, new: NewReplay) -> Result<Replay, LettersError> {
        check(&new)?;
        let group = self.group();
        if let Selection::Ids(ids) = &new.selection {
            all_known(&self.pool, &group, ids).await?;
        }
        let mut tx = bulk::begin(&self.pool).await?;
        let id = insert(&mut tx, &group, &new).await?;
        let selected = select(&mut tx, &group, id, &new).await?;
        if let Selection::Ids(ids) = &new.selection
            && selected < ids.len() as u64
        {
            // Dropping the transaction rolls it back.
            return Err(exclusion_error(&mut tx, id, ids).await?);
        }
        if selected == 0 {
            return Err(LettersError::Conflict(format!(
                "nothing to replay: no dead letter of {group} is chosen that is not being replayed, parked or expired; \
                 force includes the last two"
            )));
        }
        let replay = sqlx::query("update dead_letter_replay set selected = $2 where id = $1");
        replay.bind(id).bind(selected.cast_signed()).execute(&mut *tx).await?;
        let replay = find(&mut *tx, id).await?;
        tx.commit().await?;
        self.requested.notify_one();
        Ok(replay)
    }
}

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").field("group", &self.group()).finish_non_exhaustive()
    }
}

fn check(new: &NewReplay) -> Result<(), LettersError> {
    let refuse = |what: &str| Err(LettersError::Unprocessable(what.to_owned()));
    if new.rate.is_some_and(|rate| !rate.is_finite() || rate < LEAST_RATE) {
        return refuse("rate must be at least 0.001 letters a second");
    }
    if new.stop_after == Some(0) {
        return refuse("stop_after must be at least 1 failure");
    }
    if matches!(&new.selection, Selection::Ids(ids) if ids.is_empty()) {
        return refuse("ids must list at least one letter");
    }
    Ok(())
}

async fn insert(
    tx: &mut Transaction<'_, Postgres>,
    group: &str,
    new: &NewReplay,
) -> sqlx::Result<Uuid> {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into dead_letter_replay (id, subscription, rehearsal, rate, ramp, stop_after, force, requested_by, why)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(group)
    .bind(new.rehearse)
    .bind(new.rate)
    .bind(new.ramp)
    .bind(new.stop_after.map(|it| i32::try_from(it).unwrap_or(i32::MAX)))
    .bind(new.force)
    .bind(&new.by)
    .bind(&new.why)
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// Adds letters to a replay, and returns their number. A rehearsal does not change them.
async fn select(
    tx: &mut Transaction<'_, Postgres>,
    group: &str,
    replay: Uuid,
    new: &NewReplay,
) -> sqlx::Result<u64> {
    let lock = if new.rehearse { "" } else { " for update" };
    let mut query = QueryBuilder::new(
        "with chosen as (select seq, status as was from dead_letter where erased_at is null and subscription = ",
    );
    query.push_bind(group);
    // A rehearsal of chosen letters changes nothing, so it needs no force. By filter it has the
    // letters that the same replay would have: what it says is about that.
    let forced = new.force || new.rehearse && matches!(new.selection, Selection::Ids(_));
    let statuses: &[&str] = if forced { &["dead", "parked"] } else { &["dead"] };
    query.push(" and status = any(").push_bind(statuses).push(")");
    if !forced {
        query.push(" and (expires_at is null or expires_at > clock_timestamp())");
    }
    new.selection.constrain(&mut query);
    query.push(format!(" order by seq{lock})"));
    if !new.rehearse {
        query.push(
            ", marked as (update dead_letter it set status = 'replaying' from chosen where it.seq = chosen.seq)",
        );
    }
    query.push(" insert into dead_letter_replay_item (replay, letter, was) select ");
    query.push_bind(replay).push(", seq, was from chosen");
    Ok(query.build().execute(&mut **tx).await?.rows_affected())
}

#[derive(sqlx::FromRow)]
struct ExcludedLetter {
    id: Uuid,
    status: String,
    expires_at: Option<OffsetDateTime>,
}

/// Returns why one of the ids can't be part of the replay.
async fn exclusion_error(
    tx: &mut Transaction<'_, Postgres>,
    replay: Uuid,
    ids: &[Uuid],
) -> sqlx::Result<LettersError> {
    let left_out: Option<ExcludedLetter> = sqlx::query_as(
        "select id, status, expires_at from dead_letter
         where id = any($2) and seq not in (select letter from dead_letter_replay_item where replay = $1) limit 1",
    )
    .bind(replay)
    .bind(ids)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(ExcludedLetter { id, status, expires_at }) = left_out else {
        return Ok(LettersError::Unprocessable("ids must list each letter once".to_owned()));
    };
    let why = match &*status {
        "replaying" => "is being replayed".to_owned(),
        "parked" => "is parked, since its replays failed too often; force replays it".to_owned(),
        "dead" if expires_at.is_some() => {
            "has expired: the inbox may have forgotten whether it was processed; force replays it"
                .to_owned()
        }
        status => format!("is {status}"),
    };
    Ok(LettersError::Conflict(format!("the dead letter {id} {why}")))
}
