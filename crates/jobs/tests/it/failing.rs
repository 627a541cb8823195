//! Tests of failing attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jobs::{Context, Failure, Handler, Job, Meta, State};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::house::{Brief, House, Refused, Work, down};

#[tokio::test]
async fn three_retries_on_schedule_then_a_record_with_every_error_and_its_causes() {
    let house = House::new().await;
    let running = house.run(house.failing::<Work>(9));
    let id = house.enqueue::<Work>(Meta::new()).await;
    let job = house.has(id, State::Failed).await;
    running.end().await;

    assert_eq!(house.seen.attempts(), [1, 2, 3, 4]);
    assert_eq!(job.record.attempts, 4);
    assert_eq!(job.errors.iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for error in &job.errors {
        assert_eq!(error.error, "the mail was refused\ncaused by: the server is down");
    }
    for (pair, wait) in job.errors.windows(2).zip(Work::BACKOFF) {
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= wait.mul_f64(0.8), "{waited} of {wait:?}");
    }
    assert_eq!(house.effects(id).await, [("failed".to_owned(), 4)]);
    let metrics = house.metrics.render();
    for line in ["jobs_run_total", "jobs_failed_total"] {
        assert!(has(&metrics, line, 4), "{metrics}");
    }
    assert!(has(&metrics, "jobs_dead_total", 1), "{metrics}");
}

fn has(metrics: &str, name: &str, value: u64) -> bool {
    let of = |line: &&str| line.starts_with(name) && line.contains("job_kind=\"work\"");
    metrics.lines().find(of).is_some_and(|line| line.ends_with(&format!(" {value}")))
}

/// The database refused, or another transaction was in the way: which is not the job's fault.
#[derive(Debug, thiserror::Error)]
#[error("the parcel could not be read")]
struct NotRead(#[source] sqlx::Error);

#[tokio::test]
async fn an_attempt_that_met_an_unavailable_database_is_not_counted() {
    let house = House::new().await;
    let times = Arc::new(AtomicU32::new(0));
    let script = move |_| {
        let is_first = times.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if is_first { Err(NotRead(sqlx::Error::PoolTimedOut).into()) } else { Ok(()) } }
    };
    let running = house.run(house.script::<Work, _>(script));
    let id = house.enqueue::<Work>(Meta::new()).await;
    let postponed = house.has(id, State::Waiting).await;
    assert!(postponed.record.attempts <= 1 && postponed.errors.is_empty(), "{postponed:?}");
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1]);
    assert!(has(&house.metrics.render(), "jobs_failed_total", 0));
    running.end().await;
}

#[tokio::test]
async fn an_attempt_that_met_it_for_long_while_the_queue_is_well_is_counted() {
    let house = House::new().await;
    let script = |_| async { Err(NotRead(sqlx::Error::PoolTimedOut).into()) };
    let id = house.enqueue::<Work>(Meta::new()).await;
    sqlx::query("update job set postponed_since = now() - interval '16 minutes'")
        .execute(&house.pool)
        .await
        .unwrap();
    let running = house.run(house.script::<Work, _>(script));
    let counted = async || {
        let job = jobs::find(&house.pool, id).await.unwrap().unwrap();
        (job.errors.len() == 1).then_some(())
    };
    sandbox::testing::eventually("the attempt to count", crate::house::PATIENCE, counted).await;
    running.end().await;
}

#[tokio::test]
async fn the_schedule_is_kept_by_another_worker() {
    let house = House::new().await;
    let first = house.run(house.failing::<Work>(2));
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;
    first.end().await;
    let job = house.has(id, State::Waiting).await;
    assert_eq!((job.record.attempts, job.errors.len()), (1, 1));
    let second = house.run(house.failing::<Work>(2));
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 2, 3]);
    assert_eq!(house.effects(id).await, [("done".to_owned(), 3)]);
    second.end().await;
}

#[tokio::test]
async fn a_target_that_asks_to_be_left_alone_is() {
    let house = House::new().await;
    let script =
        |_| async { Err(Failure::from(Refused(down())).retry_after(Duration::from_hours(1))) };
    let running = house.run(house.script::<Work, _>(script));
    let id = house.enqueue::<Work>(Meta::new()).await;
    let failed = async || {
        let job = house.has(id, State::Waiting).await;
        (job.errors.len() == 1).then_some(job)
    };
    let job = sandbox::testing::eventually("a failure", crate::house::PATIENCE, failed).await;
    assert!(job.record.run_at - job.errors[0].at > Duration::from_mins(59), "{job:?}");
    running.end().await;
}

#[tokio::test]
async fn an_attempt_that_is_deferred_is_none() {
    let house = House::new().await;
    let deferred = AtomicU32::new(0);
    let script = move |_| {
        let before = deferred.fetch_add(1, Ordering::SeqCst);
        let wait = Duration::from_millis(if before < 5 { 20 } else { 3_600_000 });
        async move { Err(Failure::deferred(Refused(down()), wait)) }
    };
    let running = house.run(house.script::<Work, _>(script));
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(6).await;
    let job = house.has(id, State::Waiting).await;
    assert_eq!((job.record.attempts, job.errors.len()), (0, 0), "more than it has retries");
    assert_eq!(house.seen.attempts(), [1; 6]);
    assert!(has(&house.metrics.render(), "jobs_failed_total", 0));
    let postponed: bool = sqlx::query_scalar("select postponed_since is not null from job")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert!(!postponed, "the database answered");
    running.end().await;
}

/// With one retry, however many its kind has.
struct Configured(Vec<Duration>);

impl Handler for Configured {
    type Job = Work;

    fn backoff(&self) -> &[Duration] {
        &self.0
    }

    async fn run(&self, _: &Work, _: &Context) -> Result<(), Failure> {
        Err(Refused(down()).into())
    }
}

#[tokio::test]
async fn a_handler_may_have_a_schedule_of_its_own() {
    let house = House::new().await;
    let running = house.run(Configured(vec![Duration::from_millis(10)]));
    let id = house.enqueue::<Work>(Meta::new()).await;
    assert_eq!(house.has(id, State::Failed).await.record.attempts, 2);
    running.end().await;
}

#[tokio::test]
async fn a_permanent_failure_has_no_retry() {
    let house = House::new().await;
    let script = |_| async { Err(Failure::permanent(Refused(down()))) };
    let running = house.run(house.script::<Work, _>(script));
    let id = house.enqueue::<Work>(Meta::new()).await;
    assert_eq!(house.has(id, State::Failed).await.errors.len(), 1);
    running.end().await;
}

#[tokio::test]
async fn a_panic_and_a_time_out_are_failures() {
    let house = House::new().await;
    let panicking = house.script::<Work, _>(|_| -> BoxFuture<'static, _> { panic!("no mailer") });
    let worker = house.worker().handle(panicking).handle(house.endless::<Brief>());
    let running = crate::house::run(worker);
    let brief = house.enqueue::<Brief>(Meta::new()).await;
    let id = house.enqueue::<Work>(Meta::new()).await;
    let last_error = async |id| house.has(id, State::Failed).await.record.last_error.unwrap();
    assert_eq!(last_error(brief).await, "the job took longer than 100ms");
    assert_eq!(last_error(id).await, "the job panicked: no mailer");
    running.end().await;
}

#[tokio::test]
async fn a_payload_that_can_not_be_read_has_failed_at_once() {
    let house = House::new().await;
    let id = house.enqueue::<Work>(Meta::new().after(Duration::from_hours(1))).await;
    let unreadable = "update job set payload = '{\"name\": 7}', run_at = now() where id = $1";
    sqlx::query(unreadable).bind(id).execute(&house.pool).await.unwrap();
    let running = house.run(house.good::<Work>());
    let job = house.has(id, State::Failed).await;
    let error = job.record.last_error.unwrap();
    assert!(
        error.starts_with("the payload is not a valid work\ncaused by: invalid type"),
        "{error}"
    );
    assert_eq!((job.errors.len(), house.seen.count()), (1, 0));
    running.end().await;
}

#[tokio::test]
async fn an_unknown_kind_is_left_to_who_knows_it() {
    let house = House::new().await;
    let unknown = house.enqueue::<Brief>(Meta::new()).await;
    let running = house.run(house.good::<Work>());
    let known = house.enqueue::<Work>(Meta::new()).await;
    house.done(known).await;
    let job = house.has(unknown, State::Waiting).await;
    assert_eq!((job.record.attempts, job.errors.len()), (0, 0));
    let shown = async || {
        house.metrics.render().contains("jobs_age_seconds{job_kind=\"brief\"").then_some(())
    };
    sandbox::testing::eventually("its age as a metric", crate::house::PATIENCE, shown).await;
    running.end().await;
    let running = house.run(house.good::<Brief>());
    house.done(unknown).await;
    running.end().await;
}

/// Handler whose hooks fail with a database error.
struct BadHooks {
    run: fn() -> Result<(), Failure>,
}

impl Handler for BadHooks {
    type Job = Work;

    async fn run(&self, _: &Work, _: &Context) -> Result<(), Failure> {
        (self.run)()
    }

    async fn done(&self, tx: &mut PgConnection, _: &Work, _: &Context) -> sqlx::Result<()> {
        sqlx::query("insert into nowhere values (1)").execute(tx).await.map(|_| ())
    }

    async fn failed(
        &self,
        _: &mut PgConnection,
        _: &Work,
        _: &Context,
        _: &Failure,
    ) -> sqlx::Result<()> {
        panic!("no table")
    }
}

async fn error_with(house: &House, run: fn() -> Result<(), Failure>) -> (Uuid, String) {
    let running = house.run(BadHooks { run });
    let id = house.enqueue::<Work>(Meta::new()).await;
    let error = house.has(id, State::Failed).await.record.last_error.unwrap();
    running.end().await;
    (id, error)
}

#[tokio::test]
async fn a_hook_that_fails_is_a_failure_and_the_record_is_written_without_it() {
    let house = House::new().await;
    let (_, error) = error_with(&house, || Ok(())).await;
    assert!(error.contains("could not be recorded") && error.contains("nowhere"), "{error}");
    let (_, error) = error_with(&house, || Err(Failure::permanent(Refused(down())))).await;
    assert!(error.starts_with("the mail was refused\ncaused by: the server is down"), "{error}");
    assert!(error.contains("hook") && error.contains("panicked"), "{error}");
}

/// Handler whose attempts fail, and the hook that records them too.
struct Unrecordable;

impl Handler for Unrecordable {
    type Job = Work;

    async fn run(&self, _: &Work, _: &Context) -> Result<(), Failure> {
        Err(Refused(down()).into())
    }

    async fn attempted(
        &self,
        tx: &mut PgConnection,
        _: &Work,
        _: &Context,
        _: Option<&Failure>,
    ) -> sqlx::Result<()> {
        sqlx::query("insert into nowhere values (1)").execute(tx).await.map(|_| ())
    }
}

#[tokio::test]
async fn each_failed_attempt_is_recorded_without_its_hook_if_that_fails() {
    let house = House::new().await;
    let running = house.run(Unrecordable);
    let id = house.enqueue::<Work>(Meta::new()).await;
    let job = house.has(id, State::Failed).await;
    running.end().await;
    assert_eq!(job.errors.iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for error in &job.errors {
        let error = &error.error;
        assert!(error.starts_with("the mail was refused") && error.contains("nowhere"), "{error}");
    }
}

/// Handler whose job fails for good with its first payload, and is given another one.
struct Restarting;

impl Handler for Restarting {
    type Job = Work;

    async fn run(&self, job: &Work, _: &Context) -> Result<(), Failure> {
        if job.name.is_empty() { Err(Failure::permanent(Refused(down()))) } else { Ok(()) }
    }

    async fn attempted(
        &self,
        tx: &mut PgConnection,
        _: &Work,
        context: &Context,
        failure: Option<&Failure>,
    ) -> sqlx::Result<()> {
        if failure.is_some() {
            let second = Work { name: "second".into() };
            jobs::restart(tx, [(context.id, &second)]).await.unwrap();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_hook_may_restart_the_job_of_its_attempt_which_then_has_not_failed() {
    let house = House::new().await;
    let running = house.run(Restarting);
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.done(id).await;
    assert!(has(&house.metrics.render(), "jobs_dead_total", 0));
    running.end().await;
}
