//! The worker's statements. Each statement that ends an attempt is fenced: it changes nothing if
//! the job is no longer this worker's, or has a later attempt.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use time::OffsetDateTime;
use tokio::time::sleep;
use uuid::Uuid;

use crate::handler::Context;
use crate::slots::Lane;

/// Wait before jobs whose rows are locked are released.
const RELEASE_AGAIN: Duration = Duration::from_millis(50);

/// A job leased by a worker.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Claimed {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) payload: Json<Box<RawValue>>,
    attempts: i32,
    tenant: String,
    lane: String,
    subject: Option<String>,
    correlation_id: Option<String>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    created_at: OffsetDateTime,
    /// Seconds since its attempts were first not counted, if they are not.
    postponed_for: Option<f64>,
}

/// Identifies an attempt: results of an earlier attempt are ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    pub(crate) id: Uuid,
    pub(crate) attempts: i32,
}

impl Claimed {
    pub(crate) fn fence(&self) -> Fence {
        Fence { id: self.id, attempts: self.attempts }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempts.unsigned_abs()
    }

    /// Returns for how long its attempts have not been counted.
    pub(crate) fn postponed_for(&self) -> Duration {
        Duration::try_from_secs_f64(self.postponed_for.unwrap_or_default()).unwrap_or_default()
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane { tenant: self.tenant.clone(), name: self.lane.clone() }
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    pub(crate) fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    pub(crate) fn asked_for_in(&self) -> Option<TraceContext> {
        let parent = self.traceparent.as_deref()?;
        Some(TraceContext::new(parent, self.tracestate.as_deref()))
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            id: self.id,
            attempt: self.attempt(),
            subject: self.subject.clone(),
            correlation_id: self.correlation_id.clone(),
            enqueued_at: self.created_at,
        }
    }
}

/// State change of a job after a failed attempt.
pub(crate) enum Disposition {
    RetryAfter(Duration),
    /// Retries after this time; the attempt does not count.
    Postpone(Duration),
    /// Runs the job after this time, since the handler deferred it.
    Defer(Duration),
    Failed,
}

/// Result of recording an ended attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Recorded,
    /// The job was restarted meanwhile, and waits again.
    Restarted,
    /// The job has another worker or attempt, or was discarded.
    Late,
}

/// Depth of the queue for one kind.
#[derive(Debug, Default, sqlx::FromRow)]
pub(crate) struct Depth {
    pub(crate) kind: String,
    pub(crate) waiting: i64,
    /// Age of the oldest due job in seconds.
    pub(crate) age: f64,
}

/// A job that its worker still has.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(crate) struct Renewal {
    pub(crate) id: Uuid,
    /// `false` if its row was locked, so that its lease ends when it would have.
    pub(crate) is_renewed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) pool: PgPool,
    /// Id of the worker, new at each start.
    pub(crate) worker: Uuid,
    pub(crate) lease: Duration,
}

impl Queue {
    pub(crate) fn new(pool: PgPool, lease: Duration) -> Self {
        Self { pool, worker: Uuid::now_v7(), lease }
    }

    /// Renews the leases of these jobs, except for those whose rows another transaction has locked:
    /// waiting for one row would cost all other jobs their leases.
    pub(crate) async fn renew(&self, held: &[Uuid]) -> sqlx::Result<Vec<Renewal>> {
        sqlx::query_as(
            "with held as materialized (
                 select id from job where id = any ($1) and worker = $2 order by id for update skip locked),
             renewed as (
                 update job set run_at = now() + make_interval(secs => $3)
                 from held where job.id = held.id returning job.id)
             select id, id in (select id from renewed) as is_renewed
             from job where id = any ($1) and worker = $2",
        )
        .bind(held)
        .bind(self.worker)
        .bind(self.lease.as_secs_f64())
        .fetch_all(&self.pool)
        .await
    }

    /// Locks a job for the rest of the transaction. Returns `false` if it has another worker or
    /// attempt, or was discarded.
    pub(crate) async fn lock(&self, tx: &mut PgConnection, job: &Claimed) -> sqlx::Result<bool> {
        let locked = sqlx::query(
            "select from job where id = $1 and worker = $2 and attempts = $3 for update",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .execute(tx)
        .await?;
        Ok(locked.rows_affected() == 1)
    }

    /// Removes a completed job.
    pub(crate) async fn remove(&self, tx: &mut PgConnection, job: &Claimed) -> sqlx::Result<Ended> {
        let removed = sqlx::query(
            "delete from job where id = $1 and worker = $2 and attempts = $3 and not again",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .execute(&mut *tx)
        .await?;
        if removed.rows_affected() == 1 {
            return Ok(Ended::Recorded);
        }
        self.start_again(tx, job, None).await
    }

    /// Removes completed jobs, and returns those that it has removed. Skips rows that
    /// another transaction has locked.
    ///
    /// Subqueries hide the lengths of the arrays from the planner. Otherwise it plans the statement
    /// each time, which takes three times as long as to execute it. The plan that is kept has to
    /// suit a table of any size: the lateral join, and the attempts compared outside of it, make it
    /// look up each job by its index.
    pub(crate) async fn remove_all(
        &self,
        connection: &mut PgConnection,
        jobs: impl Iterator<Item = Fence>,
    ) -> sqlx::Result<Vec<Uuid>> {
        let (ids, attempts): (Vec<_>, Vec<_>) = jobs.map(|job| (job.id, job.attempts)).unzip();
        sqlx::query_scalar(
            "with held as materialized (
                 select job.id from unnest((select $1::uuid[]), (select $2::integer[])) as ended (id, attempts)
                 cross join lateral (
                     select id, attempts from job where id = ended.id and worker = $3 and not again
                     for update skip locked
                 ) as job
                 where job.attempts = ended.attempts
             )
             delete from job using held where job.id = held.id returning job.id",
        )
        .bind(ids)
        .bind(attempts)
        .bind(self.worker)
        .fetch_all(connection)
        .await
    }

    /// Records a failed attempt; the last twenty are kept.
    pub(crate) async fn fail(
        &self,
        tx: &mut PgConnection,
        job: &Claimed,
        error: &str,
        disposition: &Disposition,
    ) -> sqlx::Result<Ended> {
        let wait = match disposition {
            Disposition::Postpone(wait) => return self.give_back(tx, job, *wait, true).await,
            Disposition::Defer(wait) => return self.give_back(tx, job, *wait, false).await,
            Disposition::RetryAfter(wait) => Some(wait.as_secs_f64()),
            Disposition::Failed => None,
        };
        let failed = sqlx::query(
            "update job
             set worker = null, suspect = false, run_at = now() + make_interval(secs => coalesce($4, 0)),
                 failed_at = case when $4 is null then now() end, postponed_since = null,
                 errors = jsonb_path_query_array(errors, '$[last - 18 to last]')
                     || jsonb_build_object('attempt', attempts, 'at', now(), 'error', $5::text)
             where id = $1 and worker = $2 and attempts = $3 and not again",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .bind(wait)
        .bind(error)
        .execute(&mut *tx)
        .await?;
        if failed.rows_affected() == 1 {
            return Ok(Ended::Recorded);
        }
        self.start_again(tx, job, Some(error)).await
    }

    /// Resets the attempts of a job that was restarted while it ran. The error of a failed attempt
    /// is kept.
    async fn start_again(
        &self,
        tx: &mut PgConnection,
        job: &Claimed,
        error: Option<&str>,
    ) -> sqlx::Result<Ended> {
        let again = sqlx::query(
            "update job
             set again = false, worker = null, suspect = false, attempts = 0, run_at = now(), postponed_since = null,
                 errors = case when $4::text is null then errors else
                     jsonb_path_query_array(errors, '$[last - 18 to last]')
                         || jsonb_build_object('attempt', attempts, 'at', now(), 'error', $4::text) end
             where id = $1 and worker = $2 and attempts = $3 and again",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .bind(error)
        .execute(tx)
        .await?;
        Ok(if again.rows_affected() == 1 { Ended::Restarted } else { Ended::Late })
    }

    /// Releases a job without counting its attempt. `blameless` records since when its attempts
    /// were not counted; without it, nothing was attempted, and a suspect stays a suspect.
    async fn give_back(
        &self,
        tx: &mut PgConnection,
        job: &Claimed,
        wait: Duration,
        blameless: bool,
    ) -> sqlx::Result<Ended> {
        let given_back = sqlx::query(
            "update job
             set again = false, worker = null, suspect = suspect and not $5,
                 attempts = case when again then 0 else attempts - 1 end,
                 run_at = now() + case when again then interval '0' else make_interval(secs => $4) end,
                 postponed_since = case when $5 then coalesce(postponed_since, now()) end
             where id = $1 and worker = $2 and attempts = $3",
        )
        .bind(job.id)
        .bind(self.worker)
        .bind(job.attempts)
        .bind(wait.as_secs_f64())
        .bind(blameless)
        .execute(tx)
        .await?;
        Ok(if given_back.rows_affected() == 1 { Ended::Recorded } else { Ended::Late })
    }

    /// Releases all jobs of this worker without counting their attempts. The attempts of a
    /// restarted job are reset. Waits for jobs that somebody has locked, after the others.
    pub(crate) async fn release(&self) -> sqlx::Result<u64> {
        let mut released = 0;
        loop {
            released += self.release_unlocked().await?;
            let left = sqlx::query_scalar("select exists (select from job where worker = $1)");
            if !left.bind(self.worker).fetch_one(&self.pool).await? {
                return Ok(released);
            }
            sleep(RELEASE_AGAIN).await;
        }
    }

    async fn release_unlocked(&self) -> sqlx::Result<u64> {
        let released = sqlx::query(
            "with held as materialized (
                 select id from job where worker = $1 order by id for update skip locked)
             update job
             set worker = null, run_at = now(), attempts = case when again then 0 else attempts - 1 end, again = false
             from held where job.id = held.id",
        )
        .bind(self.worker)
        .execute(&self.pool)
        .await?;
        Ok(released.rows_affected())
    }

    /// Measures every waiting kind, also unknown ones. The query steps from kind to kind and counts
    /// up to a bound, so it is as fast with a million rows as with none.
    pub(crate) async fn measure(&self) -> sqlx::Result<Vec<Depth>> {
        sqlx::query_as(
            "with recursive waiting (kind) as (
                 (select kind from job where failed_at is null order by kind limit 1)
                 union all
                 select (select job.kind from job where failed_at is null and job.kind > waiting.kind
                         order by job.kind limit 1)
                 from waiting where waiting.kind is not null
             )
             select kind,
                    (select count(*) from (select 1 from job where job.kind = waiting.kind
                                           and failed_at is null limit 10000) as rows) as waiting,
                    (select coalesce(extract(epoch from now() - min(run_at)), 0)::float8 from job
                     where job.kind = waiting.kind and failed_at is null and run_at <= now()) as age
             from waiting where kind is not null",
        )
        .fetch_all(&self.pool)
        .await
    }
}
