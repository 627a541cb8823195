//! Jobs whose worker died. Which of those that it ran has killed it is not known, so that attempt is not counted, and each of
//! them is a suspect: it runs alone next. If its worker dies while it is alone, that attempt is counted. If it is alone for its
//! window without harm, it is no suspect any more. One that was restarted during the attempt has all its attempts, and is a
//! suspect all the same.

use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::queue::{Claimed, Fence, Queue};

/// A job that is to run alone.
pub(crate) struct Suspect {
    pub(crate) job: Claimed,
    /// How many times a worker died while it ran this job beside others.
    pub(crate) suspicions: u32,
}

impl Queue {
    /// Takes from workers that gave no sign of life for a lease what they ran, and returns `true` if there are suspects that
    /// are due. `held` is what this worker runs: it may have lost its leases while the database was unavailable, and did not
    /// die. `of_others`: what this worker has no more counts at once, since it is alive; of others it can only tell if it
    /// could have seen their sign of life.
    pub(crate) async fn recover(
        &self,
        kinds: &[String],
        held: &[Uuid],
        of_others: bool,
    ) -> sqlx::Result<bool> {
        sqlx::query_scalar(
            "with gone as (
                 select id from job
                 where worker is not null and run_at <= now() and id <> all ($2) and (worker = $3 or $4)
                 for update skip locked
             ), recovered as (
                 update job
                 set worker = null, suspect = suspect or worker <> $3, again = false,
                     suspicions = suspicions + case when suspect or worker = $3 then 0 else 1 end,
                     attempts = case when again then 0 when suspect or worker = $3 then attempts else attempts - 1 end,
                     errors = jsonb_path_query_array(errors, '$[last - 18 to last]') || jsonb_build_object(
                         'attempt', attempts, 'at', now(),
                         'error', case when suspect or worker = $3
                             then 'it did not end: its worker died, or was away for longer than its lease'
                             else 'it did not end: its worker died while it ran others too; not counted, and run alone next'
                             end)
                 from gone where job.id = gone.id
                 returning kind, suspect
             )
             select exists (select from recovered where suspect and kind = any ($1))
                 or exists (select from job where suspect and failed_at is null and worker is null
                            and run_at <= now() and kind = any ($1))",
        )
        .bind(kinds)
        .bind(held)
        .bind(self.worker)
        .bind(of_others)
        .fetch_one(&self.pool)
        .await
    }

    /// Takes the suspect that has been due for longest, and counts the attempt.
    pub(crate) async fn claim_suspect(&self, kinds: &[String]) -> sqlx::Result<Option<Suspect>> {
        let row = sqlx::query(
            "update job
             set attempts = attempts + 1, worker = $2, again = false, run_at = now() + make_interval(secs => $3)
             where id = (
                 select id from job
                 where suspect and failed_at is null and worker is null and run_at <= now() and kind = any ($1)
                 order by run_at limit 1 for update skip locked)
             returning id, kind, payload, attempts, tenant, lane, subject, correlation_id, traceparent, tracestate,
                 created_at, extract(epoch from now() - postponed_since)::float8 as postponed_for, suspicions",
        )
        .bind(kinds)
        .bind(self.worker)
        .bind(self.lease.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        let suspect = |row| {
            let suspicions: i32 = Row::try_get(&row, "suspicions")?;
            Ok(Suspect { job: Claimed::from_row(&row)?, suspicions: suspicions.unsigned_abs() })
        };
        row.map(suspect).transpose()
    }

    /// Clears a suspect that runs, if this is still its attempt.
    pub(crate) async fn acquit(&self, job: &Fence) -> sqlx::Result<()> {
        sqlx::query(
            "update job set suspect = false where id = $1 and worker = $2 and attempts = $3",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
