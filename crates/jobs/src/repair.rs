//! What an operator does about one job.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Gives a failed job all its attempts again, and keeps the errors of those before. Returns `false` if it does not exist, has
/// not failed, or another job of its unique key waits or runs.
pub async fn retry(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let retried = sqlx::query(
        "update job set failed_at = null, attempts = 0, run_at = now()
         where id = $1 and failed_at is not null",
    )
    .bind(id)
    .execute(pool)
    .await;
    match retried {
        Ok(retried) => Ok(retried.rows_affected() == 1),
        Err(error) if is_twin(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives jobs that have failed or wait all their attempts again, at once, in the caller's transaction. One that runs is left
/// alone. Returns the ids of those that exist: what is done leaves no job, and is to be enqueued anew.
pub async fn restart(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "with found as materialized (select id from job where id = any($1) order by id for update),
         restarted as (
             update job set failed_at = null, attempts = 0, run_at = now(), postponed_since = null
             from found where job.id = found.id and job.worker is null)
         select id from found",
    )
    .bind(ids)
    .fetch_all(tx)
    .await
}

/// Removes those of these jobs that have failed, in the transaction that removes what they are about.
pub async fn forget_failed(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    let forgotten = sqlx::query("delete from job where id = any($1) and failed_at is not null");
    forgotten.bind(ids).execute(tx).await?;
    Ok(())
}

/// Erases an e-mail address: failed jobs whose payload names it are removed, and errors that do are blanked. It is found in any
/// case, and as a whole only. Payloads of jobs that wait are left to the service, which knows what is lost.
pub async fn erase(pool: &PgPool, address: &str) -> sqlx::Result<()> {
    let pattern = pg::address_pattern(address, pg::AddressIn::Text);
    for statement in [
        "delete from job where failed_at is not null and payload::text ~* $1",
        "update job set errors = '[]' where errors::text ~* $1",
    ] {
        sqlx::query(statement).bind(&pattern).execute(pool).await?;
    }
    Ok(())
}

/// Removes a job that has failed, or waits. Returns `false` if it does not exist, or runs.
pub async fn discard(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let discarded = sqlx::query("delete from job where id = $1 and worker is null");
    Ok(discarded.bind(id).execute(pool).await?.rows_affected() == 1)
}

/// Returns `true` if a job was refused because another one of its unique key waits or runs.
pub(crate) fn is_twin(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("job_unique"))
}
