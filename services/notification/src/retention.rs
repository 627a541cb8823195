//! Deletes expired e-mails and deliveries, because they are customers' data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;
use uuid::Uuid;

use crate::config::Retention;

const PRUNED_AT_ONCE: i64 = 1_000;

/// Statements that find and delete the expired rows of a table.
struct Prunable {
    select: &'static str,
    /// Deletes the rows that are still deletable, and returns their ids.
    delete: &'static str,
}

const EMAILS: Prunable = Prunable {
    select: "select id from emails where id < $1 and (sent_at is not null or failed_at is not null) order by id limit $2",
    delete: "with old as materialized (
                 select id from emails where id = any($1) and (sent_at is not null or failed_at is not null)
                 order by id for update)
             delete from emails using old where emails.id = old.id returning emails.id",
};

const DELIVERIES: Prunable = Prunable {
    select: "select id from deliveries where id < $1 and status <> 'waiting' order by id limit $2",
    delete: "with old as materialized (
                 select id from deliveries where id = any($1) and status <> 'waiting' order by id for update)
             delete from deliveries using old where deliveries.id = old.id returning deliveries.id",
};

const WEBHOOK_EVENTS: Prunable = Prunable {
    select: "select id from webhook_events where id < $1 order by id limit $2",
    delete: "delete from webhook_events where id = any($1) returning id",
};

/// Deletes expired data, except e-mails and deliveries that are still waiting. Their failed jobs
/// are deleted too, because an error may quote an address.
pub(crate) async fn prune(pool: PgPool, retention: Retention) -> sqlx::Result<()> {
    in_chunks(&pool, &EMAILS, before(retention.emails)).await?;
    in_chunks(&pool, &DELIVERIES, before(retention.deliveries)).await?;
    in_chunks(&pool, &WEBHOOK_EVENTS, before(retention.deliveries)).await?;
    sqlx::query("delete from webhook_secrets where valid_until < now()").execute(&pool).await?;
    Ok(())
}

async fn in_chunks(pool: &PgPool, rows: &Prunable, before: Uuid) -> sqlx::Result<()> {
    loop {
        let chunk = pg::in_turn(async {
            let mut tx = pool.begin().await?;
            let old: Vec<Uuid> = sqlx::query_scalar(rows.select)
                .bind(before)
                .bind(PRUNED_AT_ONCE)
                .fetch_all(&mut *tx)
                .await?;
            // Jobs are locked before rows, both by ascending id, as everywhere where both are
            // locked (see `jobs::lock`).
            jobs::lock(&mut tx, &old).await?;
            let deleted: Vec<Uuid> =
                sqlx::query_scalar(rows.delete).bind(&old).fetch_all(&mut *tx).await?;
            jobs::forget_failed(&mut tx, &deleted).await?;
            tx.commit().await?;
            Ok(old.len())
        });
        if chunk.await? < usize::try_from(PRUNED_AT_ONCE).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

/// Returns an id below that of every UUIDv7 younger than `age`.
fn before(age: Duration) -> Uuid {
    let then =
        SystemTime::now().checked_sub(age).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    id_at(then.unwrap_or_default())
}

/// Returns an id below that of every UUIDv7 made at that time since 1970 or later.
pub(crate) fn id_at(since_epoch: Duration) -> Uuid {
    let milliseconds = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Uuid::from_u128(u128::from(milliseconds & 0xffff_ffff_ffff) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_moment_stands_between_those_before_and_after() {
        let earlier = Uuid::now_v7();
        std::thread::sleep(Duration::from_millis(3));
        let between = before(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(3));
        assert!(earlier < between && between < Uuid::now_v7());
        assert_eq!(before(Duration::MAX), Uuid::nil(), "nothing is old enough");
    }
}
