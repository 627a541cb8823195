//! Writes the results of a replay's letters, under its lease.
//!
//! The letters of a replay exist from its request on. An upsert changes them, because it finds each
//! by its key regardless of the table's statistics.

use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::bulk;
use super::burial::{FailedAttempt, LetterReason, cut, fingerprint};
use crate::outcome::Outcome;

/// Subquery that counts the letters of the replay `it` by outcome.
pub(super) const COUNTED: &str = "(select coalesce(jsonb_object_agg(outcome, letters), '{}')
     from (select outcome, count(*) as letters from dead_letter_replay_item
           where replay = it.id and outcome is not null group by outcome) counted)";

/// The lease was lost, or the replay was paused or cancelled: nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("this instance no longer holds the lease of the replay")]
pub(crate) struct NotRunning;

/// The lease of a replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) replay: Uuid,
    pub(crate) fence: i64,
}

impl Lease {
    /// Begins a transaction that locks the replay. Returns `None` if it no longer runs under this
    /// lease.
    async fn begin(self, pool: &PgPool) -> sqlx::Result<Option<Transaction<'static, Postgres>>> {
        let mut tx = pool.begin().await?;
        let runs = self.hold(&mut tx).await?;
        Ok(runs.then_some(tx))
    }

    /// Locks the replay until the transaction ends. Returns `false` if it no longer runs under this
    /// lease.
    pub(super) async fn hold(self, tx: &mut PgConnection) -> sqlx::Result<bool> {
        let runs = "select 1 from dead_letter_replay where id = $1 and fence = $2 and status = 'running' for share";
        let held = sqlx::query(runs).bind(self.replay).bind(self.fence).fetch_optional(tx).await?;
        Ok(held.is_some())
    }
}

/// Letters of a replay that share a transaction, in the order of the messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replaying<'a> {
    pub(crate) lease: Lease,
    pub(crate) letters: &'a [i64],
}

/// Marks letters as resolved, in the transaction of their effects. Returns `false` if the
/// transaction must not commit.
pub(crate) async fn settle(
    tx: &mut PgConnection,
    replaying: &Replaying<'_>,
    outcomes: &[Outcome],
) -> sqlx::Result<bool> {
    if !replaying.lease.hold(tx).await? {
        return Ok(false);
    }
    let outcomes: Vec<_> = outcomes.iter().map(|it| it.as_str()).collect();
    sqlx::query(
        // The subquery finds each letter by its key. For a join, Postgres expected one row and
        // compared every letter being replayed with every letter of the batch.
        "with settled as (select * from unnest($2::bigint[], $3::text[]) settled (letter, outcome)),
              items as (
                  insert into dead_letter_replay_item as item (replay, letter, was, outcome, settled_at)
                  select $1, letter, '', outcome, clock_timestamp() from settled
                  on conflict (replay, letter) do update
                  set outcome = excluded.outcome, settled_at = excluded.settled_at where item.outcome is null),
              found as materialized (
                  select seq, settled.outcome from settled cross join lateral (
                      select seq from dead_letter where seq = settled.letter and status = 'replaying' for update) it)
         update dead_letter it
         set status = 'resolved', outcome = found.outcome, closed_at = clock_timestamp()
         from found where it.seq = found.seq",
    )
    .bind(replaying.lease.replay)
    .bind(replaying.letters)
    .bind(outcomes)
    .execute(tx)
    .await?;
    Ok(true)
}

/// A letter, its outcome, and why it failed.
pub(super) type LetterOutcome = (i64, &'static str, Option<String>);

/// Records outcomes in the replay only: for a rehearsal, or for held letters.
pub(super) async fn note(
    pool: &PgPool,
    lease: Lease,
    noted: &[LetterOutcome],
) -> sqlx::Result<bool> {
    pg::bounded(async {
        let Some(mut tx) = lease.begin(pool).await? else { return Ok(false) };
        note_in(&mut tx, lease, noted).await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

async fn note_in(tx: &mut PgConnection, lease: Lease, noted: &[LetterOutcome]) -> sqlx::Result<()> {
    let letters: Vec<_> = noted.iter().map(|it| it.0).collect();
    let outcomes: Vec<_> = noted.iter().map(|it| it.1).collect();
    let reasons: Vec<_> = noted.iter().map(|it| it.2.as_deref().map(cut)).collect();
    sqlx::query(
        "insert into dead_letter_replay_item (replay, letter, was, outcome, reason, settled_at)
         select $1, letter, '', outcome, reason, clock_timestamp()
         from unnest($2::bigint[], $3::text[], $4::text[]) noted (letter, outcome, reason)
         on conflict (replay, letter) do update
         set outcome = excluded.outcome, reason = excluded.reason, settled_at = excluded.settled_at",
    )
    .bind(lease.replay)
    .bind(letters)
    .bind(outcomes)
    .bind(reasons)
    .execute(tx)
    .await?;
    Ok(())
}

/// Records that a letter failed again. After `max_replays` failures it is parked.
pub(super) async fn fail(
    pool: &PgPool,
    lease: Lease,
    group: &str,
    letter: i64,
    why: &LetterReason,
    max_replays: u32,
) -> sqlx::Result<bool> {
    pg::bounded(async {
        let Some(mut tx) = lease.begin(pool).await? else { return Ok(false) };
        fail_in(&mut tx, lease, group, letter, why, max_replays).await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

async fn fail_in(
    tx: &mut PgConnection,
    lease: Lease,
    group: &str,
    letter: i64,
    why: &LetterReason,
    max_replays: u32,
) -> sqlx::Result<()> {
    let LetterReason { reason, fingerprint: kind } = why;
    let event_type: Option<String> =
        sqlx::query_scalar("select event_type from dead_letter where seq = $1")
            .bind(letter)
            .fetch_one(&mut *tx)
            .await?;
    let fingerprint = fingerprint(group, event_type.as_deref(), kind);
    note_in(tx, lease, &[(letter, "failed", Some(reason.message.clone()))]).await?;
    sqlx::query(
        "update dead_letter
         set replays = replays + 1, outcome = 'failed', exception = $2, reason = $3, causes = $4, fingerprint = $5,
             attempts = attempts || $6, status = case when replays + 1 >= $7 then 'parked' else 'dead' end
         where seq = $1",
    )
    .bind(letter)
    .bind(cut(&reason.exception))
    .bind(cut(&reason.message))
    .bind(cut(&reason.stacktrace))
    .bind(fingerprint)
    .bind(Json([FailedAttempt::new(reason, Some(lease.replay))]))
    .bind(i32::try_from(max_replays).unwrap_or(i32::MAX))
    .execute(tx)
    .await?;
    Ok(())
}

/// Records that an attempt at letters begins, `alone` or together.
pub(super) async fn begin(
    pool: &PgPool,
    lease: Lease,
    letters: &[i64],
    alone: bool,
) -> sqlx::Result<bool> {
    let marking = sqlx::query(
        "insert into dead_letter_replay_item (replay, letter, was, begun, alone)
         select it.id, letter, '', true, $4
         from (select id from dead_letter_replay
               where id = $1 and fence = $2 and status = 'running' for share) it
         cross join unnest($3::bigint[]) begun (letter)
         on conflict (replay, letter) do update set begun = true, alone = excluded.alone",
    )
    .bind(lease.replay)
    .bind(lease.fence)
    .bind(letters)
    .bind(alone)
    .execute(pool);
    let begun = pg::bounded(marking).await?;
    Ok(begun.rows_affected() == letters.len() as u64)
}

/// Releases letters that a replay did not attempt, with their previous status. The others may be
/// letters of a later replay by now.
pub(super) async fn release(tx: &mut PgConnection, replay: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update dead_letter it
         set status = item.was, outcome = case when item.outcome = 'held' then 'held' else it.outcome end
         from dead_letter_replay_item item
         where item.replay = $1 and it.seq = item.letter and it.status = 'replaying'
           and (item.outcome is null or item.outcome = 'held')
           and not exists (select 1 from dead_letter_replay where id = $1 and rehearsal)",
    )
    .bind(replay)
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores the outcomes of a replay that this transaction has ended. They are final: an outcome is
/// only written while its replay is locked as `running`, an erasure changes the reason only, and
/// pruning deletes whole rows. The statement that ends the replay can't count, because it does not
/// see a batch whose commit it waited for.
pub(super) async fn keep_outcomes(tx: &mut PgConnection, replay: Uuid) -> sqlx::Result<()> {
    let keep = format!("update dead_letter_replay it set outcomes = {COUNTED} where id = $1");
    sqlx::query(sqlx::AssertSqlSafe(keep)).bind(replay).execute(tx).await?;
    Ok(())
}

/// Ends a replay without remaining letters, or releases it for the next run.
pub(super) async fn end(pool: &PgPool, lease: Lease) -> sqlx::Result<()> {
    if bulk::bounded(end_if_empty(pool, lease)).await? {
        return Ok(());
    }
    give_back(pool, lease).await
}

/// Ends a replay, unless letters are left. Then it returns `false`.
async fn end_if_empty(pool: &PgPool, lease: Lease) -> sqlx::Result<bool> {
    let mut tx = bulk::begin(pool).await?;
    let left =
        "select 1 from dead_letter_replay_item where replay = $1 and outcome is null limit 1";
    if sqlx::query(left).bind(lease.replay).fetch_optional(&mut *tx).await?.is_some() {
        return Ok(false);
    }
    if lease.hold(&mut tx).await? {
        release(&mut tx, lease.replay).await?;
        let done = "update dead_letter_replay
                    set status = 'done', ended_at = clock_timestamp(), note = null, leased_by = null, leased_until = null
                    where id = $1";
        sqlx::query(done).bind(lease.replay).execute(&mut *tx).await?;
        keep_outcomes(&mut tx, lease.replay).await?;
        tx.commit().await?;
    }
    Ok(true)
}

/// Pauses a replay with a reason.
pub(super) async fn pause(pool: &PgPool, lease: Lease, why: &str) -> sqlx::Result<()> {
    put_down(pool, lease, "paused", Some(why)).await
}

/// Releases a replay for the next instance.
pub(super) async fn give_back(pool: &PgPool, lease: Lease) -> sqlx::Result<()> {
    put_down(pool, lease, "queued", None).await
}

async fn put_down(
    pool: &PgPool,
    lease: Lease,
    status: &str,
    why: Option<&str>,
) -> sqlx::Result<()> {
    let put_down = "update dead_letter_replay
                    set status = $3, note = $4, leased_by = null, leased_until = null
                    where id = $1 and fence = $2 and status = 'running'";
    let put_down =
        sqlx::query(put_down).bind(lease.replay).bind(lease.fence).bind(status).bind(why);
    pg::bounded(async {
        let mut tx = pool.begin().await?;
        if put_down.execute(&mut *tx).await?.rows_affected() > 0 {
            forget_begun(&mut tx, lease.replay).await?;
            tx.commit().await?;
        }
        Ok(())
    })
    .await
}

/// Clears the start marks of unsettled letters, which did not crash a process.
pub(super) async fn forget_begun(tx: &mut PgConnection, replay: Uuid) -> sqlx::Result<()> {
    let forget = "update dead_letter_replay_item set begun = false, alone = false
                  where replay = $1 and outcome is null and begun";
    sqlx::query(forget).bind(replay).execute(tx).await?;
    Ok(())
}

/// Records that no letter crashed the process that had the lease before.
pub(super) async fn unbegin(pool: &PgPool, lease: Lease) -> sqlx::Result<()> {
    pg::bounded(async {
        let Some(mut tx) = lease.begin(pool).await? else { return Ok(()) };
        forget_begun(&mut tx, lease.replay).await?;
        tx.commit().await
    })
    .await
}
