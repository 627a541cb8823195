//! Bulk changes by operators, in chunks of one transaction each, so that no lock is held for long
//! and no list of jobs is held in memory.

use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::JobsError;
use crate::filter::{Filter, Selection};
use crate::repair;

/// Number of jobs changed by one statement.
const CHUNK: i64 = 1_000;

/// Result of a bulk change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// Number of changed jobs.
    pub jobs: u64,
    /// Number of skipped jobs: on retry, because another job with their unique key waits or runs;
    /// on discard, because they are running.
    pub skipped: u64,
}

/// Gives failed jobs all their attempts again, and keeps their earlier errors. Skips other jobs and
/// jobs that fail again meanwhile. Of several failed jobs with one unique key the newest is
/// retried.
///
/// # Errors
/// Fails with [`JobsError::NotFound`] if an id is unknown, and with [`JobsError::Conflict`] if no
/// job could be changed. If the database fails after some jobs were changed, it fails with
/// [`JobsError::Interrupted`]; the same call changes the others.
pub async fn retry_all(pool: &PgPool, selection: &Selection) -> Result<Changed, JobsError> {
    BulkChange::Retry.make(pool, selection).await
}

/// Removes failed and waiting jobs. Skips running jobs and jobs enqueued meanwhile.
///
/// # Errors
/// Fails like [`retry_all`].
pub async fn discard_all(pool: &PgPool, selection: &Selection) -> Result<Changed, JobsError> {
    BulkChange::Discard.make(pool, selection).await
}

#[derive(Clone, Copy)]
enum BulkChange {
    Retry,
    Discard,
}

/// Number of jobs of a chunk that could be changed, and that were.
#[derive(FromRow)]
struct Counts {
    chosen: i64,
    changed: i64,
}

impl BulkChange {
    async fn make(self, pool: &PgPool, selection: &Selection) -> Result<Changed, JobsError> {
        if let Selection::Ids(ids) = selection {
            all_known(pool, ids).await?;
        }
        // Jobs that are enqueued or fail after this moment are not part of the selection.
        let began = sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?;
        let mut changed = Changed::default();
        match self.walk(pool, selection, began, &mut changed).await {
            Ok(()) if changed.jobs == 0 => Err(JobsError::Conflict(self.refusal_reason(changed))),
            Ok(()) => Ok(changed),
            Err(source) if changed.jobs > 0 => {
                Err(JobsError::Interrupted { changed: changed.jobs, source })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes chunk after chunk, newest jobs first, in the order of lists.
    async fn walk(
        self,
        pool: &PgPool,
        selection: &Selection,
        began: OffsetDateTime,
        changed: &mut Changed,
    ) -> sqlx::Result<()> {
        match selection {
            Selection::Ids(ids) => {
                let mut ids = ids.clone();
                ids.sort_unstable_by(|a, b| b.cmp(a));
                ids.dedup();
                for chunk in ids.chunks(usize::try_from(CHUNK).unwrap_or(1)) {
                    self.chunk(pool, &Filter::default(), chunk, began, changed).await?;
                }
            }
            Selection::Filter(filter) => {
                let mut before = None;
                while let chunk = self.next(pool, filter, before, began).await?
                    && let Some(last) = chunk.last().copied()
                {
                    self.chunk(pool, filter, &chunk, began, changed).await?;
                    before = Some(last);
                }
            }
        }
        Ok(())
    }

    /// Returns the next ids that a filter selects.
    async fn next(
        self,
        pool: &PgPool,
        filter: &Filter,
        before: Option<Uuid>,
        began: OffsetDateTime,
    ) -> sqlx::Result<Vec<Uuid>> {
        let mut query = QueryBuilder::new("select id from job where true");
        self.constrain(&mut query, began);
        filter.constrain(&mut query);
        if let Some(before) = before {
            query.push(" and id < ").push_bind(before);
        }
        query.push(" order by id desc limit ").push_bind(CHUNK);
        query.build_query_scalar().fetch_all(pool).await
    }

    fn constrain(self, query: &mut QueryBuilder<Postgres>, began: OffsetDateTime) {
        query.push(match self {
            Self::Retry => " and failed_at <= ",
            Self::Discard => " and created_at <= ",
        });
        query.push_bind(began);
    }

    /// Changes the jobs of a chunk that still match the filter.
    async fn chunk(
        self,
        pool: &PgPool,
        filter: &Filter,
        ids: &[Uuid],
        began: OffsetDateTime,
        changed: &mut Changed,
    ) -> sqlx::Result<()> {
        // Locked in the order of [`repair::lock`], which prevents deadlocks.
        let mut query = QueryBuilder::new(
            "with chosen as materialized (select id, kind, unique_key, worker from job where id = any(",
        );
        query.push_bind(ids).push(")");
        self.constrain(&mut query, began);
        filter.constrain(&mut query);
        query.push(" order by id for update), ").push(self.statement()).push(
            " select (select count(*) from chosen) as chosen, (select count(*) from changed) as changed",
        );
        let counts: Counts = match query.build_query_as().fetch_one(pool).await {
            Ok(counts) => counts,
            // A job with the same unique key was enqueued between the query and the change.
            Err(error) if repair::is_twin(&error) => Self::one_by_one(pool, ids, began).await?,
            Err(error) => return Err(error),
        };
        changed.jobs += counts.changed.unsigned_abs();
        changed.skipped += (counts.chosen - counts.changed).unsigned_abs();
        Ok(())
    }

    fn statement(self) -> &'static str {
        match self {
            Self::Retry => {
                "ranked as (select id, kind, unique_key,
                            row_number() over (partition by kind, unique_key order by id desc) as rank from chosen),
                 changed as (update job set failed_at = null, attempts = 0, suspicions = 0, run_at = now() from ranked
                     where job.id = ranked.id and (ranked.unique_key is null or ranked.rank = 1 and not exists (
                         select from job twin where twin.kind = ranked.kind and twin.unique_key = ranked.unique_key
                             and twin.failed_at is null))
                     returning job.id)"
            }
            Self::Discard => {
                "changed as (delete from job using chosen
                     where job.id = chosen.id and chosen.worker is null returning job.id)"
            }
        }
    }

    /// Retries the jobs of a chunk with one statement each.
    async fn one_by_one(
        pool: &PgPool,
        ids: &[Uuid],
        began: OffsetDateTime,
    ) -> sqlx::Result<Counts> {
        let failed: Vec<Uuid> = sqlx::query_scalar(
            "select id from job where id = any($1) and failed_at <= $2 order by id desc",
        )
        .bind(ids)
        .bind(began)
        .fetch_all(pool)
        .await?;
        let mut counts = Counts { chosen: 0, changed: 0 };
        for id in failed {
            counts.chosen += 1;
            counts.changed += i64::from(repair::retry(pool, id).await?);
        }
        Ok(counts)
    }

    fn refusal_reason(self, Changed { skipped, .. }: Changed) -> String {
        let why = match (self, skipped) {
            (Self::Retry, 0) => "none of these jobs has failed",
            (Self::Retry, _) => "of each of these jobs another one of its unique key waits or runs",
            (Self::Discard, 0) => "none of these jobs has failed or waits",
            (Self::Discard, _) => "these jobs run; try again when they have ended",
        };
        why.to_owned()
    }
}

/// Fails if one of these ids is unknown.
async fn all_known(pool: &PgPool, ids: &[Uuid]) -> Result<(), JobsError> {
    let missing: Option<Uuid> = sqlx::query_scalar(
        "select asked.id from unnest($1::uuid[]) asked (id)
         where not exists (select 1 from job where job.id = asked.id) limit 1",
    )
    .bind(ids)
    .fetch_optional(pool)
    .await?;
    missing.map_or(Ok(()), |id| {
        let why = format!("there is no job {id}; completed jobs are not kept");
        Err(JobsError::NotFound(why))
    })
}
