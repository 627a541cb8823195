//! E-mails and deliveries are customers' data, and are not kept for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;
use uuid::Uuid;

use crate::config::Retention;

const PRUNED_AT_ONCE: i64 = 1_000;

/// Deletes what is older than it is kept, but for what is still to be sent. Failed jobs about it go with it: their errors may
/// quote an address.
pub(crate) async fn prune(pool: PgPool, retention: Retention) -> sqlx::Result<()> {
    in_chunks(
        &pool,
        "delete from emails where id = any(array(
             select id from emails where id < $1 and (sent_at is not null or failed_at is not null)
             order by id limit $2))
         returning id",
        before(retention.emails),
    )
    .await?;
    in_chunks(
        &pool,
        "delete from deliveries where id = any(array(
             select id from deliveries where id < $1 and status <> 'waiting' order by id limit $2))
         returning id",
        before(retention.deliveries),
    )
    .await?;
    in_chunks(
        &pool,
        "delete from webhook_events where id = any(array(
             select id from webhook_events where id < $1 order by id limit $2))
         returning id",
        before(retention.deliveries),
    )
    .await?;
    sqlx::query("delete from webhook_secrets where valid_until < now()").execute(&pool).await?;
    Ok(())
}

async fn in_chunks(pool: &PgPool, delete: &'static str, before: Uuid) -> sqlx::Result<()> {
    loop {
        let chunk = pg::in_turn(async {
            let mut tx = pool.begin().await?;
            let ids: Vec<Uuid> = sqlx::query_scalar(delete)
                .bind(before)
                .bind(PRUNED_AT_ONCE)
                .fetch_all(&mut *tx)
                .await?;
            jobs::forget_failed(&mut tx, &ids).await?;
            tx.commit().await?;
            Ok(ids.len())
        });
        if chunk.await? < usize::try_from(PRUNED_AT_ONCE).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

/// Returns an id below every UUIDv7 that is younger.
fn before(age: Duration) -> Uuid {
    let then =
        SystemTime::now().checked_sub(age).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    id_at(then.unwrap_or_default())
}

fn id_at(since_epoch: Duration) -> Uuid {
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
        assert_eq!(before(Duration::MAX), Uuid::nil(), "kept for ever");
    }
}
