//! Compares durable jobs with a bare queue in Postgres.

use std::time::{Duration, Instant};

use jobs::{Context, Failure, Handler, Job, Meta, Worker, WorkerWaker};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use telemetry::Metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::{Report, Round, Row, aiming_at, count};
use crate::servers::{self, Bench};
use crate::{Fallible, Size};

const JOBS: usize = 4_000;
/// Number of concurrent jobs of the worker, and of connections of the baseline.
const SIDE_BY_SIDE: usize = 8;
const LIMIT: Duration = Duration::from_mins(1);

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Job for Nothing {
    const KIND: &'static str = "nothing";
}

struct DoNothing;

impl Handler for DoNothing {
    type Job = Nothing;
    const AT_ONCE: usize = SIDE_BY_SIDE;

    async fn run(&self, _: &Nothing, _: &Context) -> Result<(), Failure> {
        Ok(())
    }
}

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let pool = servers::pool(&bench.database("jobs").await?).await?;
    jobs::migrate(&pool).await?;
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let number = size.of(JOBS);
        enqueue(&pool, number).await?;
        let ours = job_rate(&pool, number).await?;
        enqueue(&pool, number).await?;
        let theirs = drained(&pool, number).await?;
        let summary = format!("{ours:.0} jobs/s, bare deletes {theirs:.0}");
        report.round("jobs", round, size.rounds, &summary);
        rounds.push(Round { ours, theirs });
    }
    Ok(vec![Row::rate("jobs, over a bare queue", "jobs/s", aiming_at(0.5, 0.7), rounds)])
}

async fn enqueue(pool: &PgPool, number: usize) -> Fallible<()> {
    let mut tx = pool.begin().await?;
    jobs::enqueue_all(&mut tx, (0..number).map(|_| (&Nothing, Meta::new()))).await?;
    tx.commit().await?;
    Ok(())
}

/// Returns the jobs per second of a worker that claims, runs and removes them.
async fn job_rate(pool: &PgPool, number: usize) -> Fallible<f64> {
    let (wake, stop) = (WorkerWaker::default(), CancellationToken::new());
    let worker = Worker::new(pool.clone(), wake.clone(), &Metrics::new("bench").meter("jobs"));
    let began = Instant::now();
    let working = tokio::spawn(worker.handle(DoNothing).run(stop.clone()));
    wake.wake();
    while sqlx::query_scalar("select exists (select from job)").fetch_one(pool).await? {
        if began.elapsed() > LIMIT {
            return Err("the jobs are not done".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = count(number) / began.elapsed().as_secs_f64();
    stop.cancel();
    working.await?;
    Ok(rate)
}

/// Returns the jobs per second of the minimum that a queue does: lock a job, delete it, commit.
async fn drained(pool: &PgPool, number: usize) -> Fallible<f64> {
    let began = Instant::now();
    let mut deleting = JoinSet::new();
    for _ in 0..SIDE_BY_SIDE {
        let pool = pool.clone();
        deleting.spawn(async move {
            loop {
                let deleted = sqlx::query(
                    "delete from job where id = (
                         select id from job where kind = 'nothing' and failed_at is null
                         order by run_at limit 1 for update skip locked)",
                );
                if deleted.execute(&pool).await?.rows_affected() == 0 {
                    return Fallible::Ok(());
                }
            }
        });
    }
    while let Some(deleted) = deleting.join_next().await {
        deleted??;
    }
    Ok(count(number) / began.elapsed().as_secs_f64())
}
