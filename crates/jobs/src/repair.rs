//! Changes of single jobs by operators, and of the jobs of its rows by a service.

use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::enqueue::{EnqueueError, payload};
use crate::job::Job;

/// Maximum number of jobs that a statement searches for an address.
const ERASED_AT_ONCE: i64 = 2_000;

/// Gives a failed job all its attempts again, and keeps its earlier errors. Returns `false` if the
/// job does not exist, has not failed, or another job with its unique key waits or runs.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn retry(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let retried = sqlx::query(
        "update job set failed_at = null, attempts = 0, suspicions = 0, run_at = now()
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

/// Locks jobs in the caller's transaction, in any state. Call it before a change of both jobs and
/// the service's own rows about them: a worker locks the job before the row when it records a
/// result, so the reverse order could deadlock. Ids are locked in ascending order, here and
/// wherever a statement locks several jobs.
///
/// # Errors
/// Fails with the error of Postgres, after which the transaction can't commit.
pub async fn lock(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("select from job where id = any($1) order by id for update")
        .bind(ids)
        .execute(tx)
        .await?;
    Ok(())
}

/// Gives jobs a new payload and all their attempts again, in the caller's transaction. Failed and
/// waiting jobs run at once. A running job runs again after its current attempt, regardless of the
/// result, and of its handler's hooks only [`attempted`](crate::Handler::attempted) is called. A
/// failed job is skipped if another job with its unique key waits or runs, as in [`retry`]; of
/// several failed jobs with one key the newest is restarted.
///
/// Returns the ids of the restarted jobs. A completed job has no row and has to be enqueued again;
/// for a skipped job, enqueuing with its key returns
/// [`Enqueued::Duplicate`](crate::Enqueued::Duplicate).
///
/// # Errors
/// Fails with [`EnqueueError`] if a payload can't be written or is too large, or if Postgres
/// refuses, and restarts none.
pub async fn restart<'a, J: Job>(
    tx: &mut PgConnection,
    jobs: impl IntoIterator<Item = (Uuid, &'a J)>,
) -> Result<Vec<Uuid>, EnqueueError> {
    let (mut ids, mut payloads) = (Vec::new(), Vec::new());
    for (id, job) in jobs {
        ids.push(id);
        payloads.push(payload(job)?);
    }
    let mut savepoint = tx.begin().await?;
    match restart_rows(&mut savepoint, J::KIND, &ids, &payloads).await {
        Ok(restarted) => {
            savepoint.commit().await?;
            Ok(restarted)
        }
        // A job with the same unique key was enqueued between query and change. The next query sees
        // it.
        Err(error) if is_twin(&error) => {
            savepoint.rollback().await?;
            Ok(restart_rows(tx, J::KIND, &ids, &payloads).await?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn restart_rows(
    tx: &mut PgConnection,
    kind: &str,
    ids: &[Uuid],
    payloads: &[String],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "with asked as materialized (
             select * from unnest($2::uuid[], $3::text[]) as asked (id, payload)
         ), found as materialized (
             select id, unique_key, failed_at, worker is not null as runs from job
             where kind = $1 and id = any($2) order by id for update
         ), ranked as (
             select *, row_number() over (partition by unique_key, failed_at is null order by id desc) as rank from found
         )
         update job
         set payload = asked.payload::json, again = found.runs, failed_at = null, postponed_since = null, suspicions = 0,
             attempts = case when found.runs then job.attempts else 0 end,
             run_at = case when found.runs then job.run_at else now() end
         from ranked as found join asked using (id)
         where job.id = found.id and (found.failed_at is null or found.unique_key is null
             or found.rank = 1 and not exists (
                 select from job twin where twin.kind = $1 and twin.unique_key = found.unique_key
                     and twin.failed_at is null))
         returning job.id",
    )
    .bind(kind)
    .bind(ids)
    .bind(payloads)
    .fetch_all(tx)
    .await
}

/// Removes the failed ones of these jobs, in the transaction that removes their subject. Lock them
/// first ([`lock`]).
///
/// # Errors
/// Fails with the error of Postgres, after which the transaction can't commit.
pub async fn forget_failed(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    let forgotten = sqlx::query("delete from job where id = any($1) and failed_at is not null");
    forgotten.bind(ids).execute(tx).await?;
    Ok(())
}

/// Erases an e-mail address: removes failed jobs whose payload contains it, and blanks errors that
/// do. The address is matched in upper and lower case, and only as a whole. Payloads of waiting
/// jobs are left to the service, which knows their meaning.
///
/// # Errors
/// Fails with the error of Postgres. Failed jobs may have been removed already; call it again.
pub async fn erase(pool: &PgPool, address: &str) -> sqlx::Result<()> {
    let pattern = pg::address_pattern(address, pg::AddressIn::Text);
    let mut after = Some(Uuid::nil());
    while let Some(id) = after {
        after = sqlx::query_scalar(
            "with chunk as materialized (
                 select id, payload, errors, failed_at from job where id > $2 order by id limit $3
             ), found as materialized (
                 select id, failed_at is not null and payload::text ~* $1 as is_removed from job
                 where id = any(array(
                     select id from chunk
                     where failed_at is not null and payload::text ~* $1 or errors::text ~* $1))
                 order by id for update
             ), removed as (
                 delete from job using found where job.id = found.id and is_removed
             ), blanked as (
                 update job set errors = '[]' from found where job.id = found.id and not is_removed
             )
             select id from chunk order by id desc limit 1",
        )
        .bind(&pattern)
        .bind(id)
        .bind(ERASED_AT_ONCE)
        .fetch_optional(pool)
        .await?;
    }
    Ok(())
}

/// Removes a failed or waiting job. Returns `false` if it does not exist or is running.
///
/// # Errors
/// Fails with the error of Postgres.
pub async fn discard(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let discarded = sqlx::query("delete from job where id = $1 and worker is null");
    Ok(discarded.bind(id).execute(pool).await?.rows_affected() == 1)
}

/// Returns `true` if a job was refused because another one with its unique key waits or runs.
pub(crate) fn is_twin(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("job_unique"))
}
