//! Suspects: jobs whose worker died. It is unknown which of its jobs killed the worker, so the
//! attempt is not counted, and each of the jobs runs alone next. If the worker dies again, that
//! attempt counts. If the job runs alone for its window without harm, it is no longer a suspect. A
//! job restarted during the attempt gets all its attempts, and is still a suspect.

use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::queue::{Claimed, Fence, Queue};

/// A job that has to run alone.
pub(crate) struct Suspect {
    pub(crate) job: Claimed,
    /// Number of workers that died while running this job with others.
    pub(crate) suspicions: u32,
}

impl Queue {
    /// Recovers jobs of workers with expired leases, and returns `true` if suspects are due. `held`
    /// are the jobs that this worker runs: it may have lost their leases while the database was
    /// unavailable, and did not die. With `of_others`, jobs of other workers are recovered too,
    /// which requires that this worker could have seen their renewals.
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

    /// Claims the suspect that has been due longest, and counts the attempt.
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

    /// Clears a running suspect, if this is still its attempt.
    pub(crate) async fn clear_suspect(&self, job: &Fence) -> sqlx::Result<()> {
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
