//! Workers that die or freeze, and a database that does.

use std::sync::mpsc;
use std::time::Duration;

use jobs::{Handler, Meta, State};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::house::{House, Work};

/// A worker with a runtime and a pool of its own, as if it were a process.
struct Process(tokio::runtime::Runtime);

impl Process {
    fn start<H: Handler>(house: &House, handler: H) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = { threads }.worker_threads(1).enable_all().build().unwrap();
        let (url, wake) = (house.url.clone(), jobs::WorkerWaker::default());
        let (options, meter) = (house.options.clone(), house.metrics.meter("jobs"));
        runtime.spawn(async move {
            let pool = PgPool::connect(&url).await.unwrap();
            let worker = jobs::Worker::new(pool, wake, &meter).options(options).handle(handler);
            worker.run(CancellationToken::new()).await;
        });
        Self(runtime)
    }

    /// Nothing is given back, renewed or recorded any more.
    fn kill(self) {
        self.0.shutdown_background();
    }
}

#[tokio::test]
async fn the_job_of_a_worker_that_was_killed_is_run_by_another_and_the_attempt_counts() {
    let house = House::new().await;
    let killed = Process::start(&house, house.endless::<Work>());
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;
    killed.kill();
    let job = house.has(id, State::Running).await;
    assert_eq!(job.record.attempts, 1);
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 2]);
    assert_eq!(house.effects(id).await, [("done".to_owned(), 2)]);
    running.end().await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_each_time_fails_without_a_fifth_run() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(300);
    let id = house.enqueue::<Work>(Meta::new()).await;
    for life in 1..=4 {
        let process = Process::start(&house, house.endless::<Work>());
        house.seen.ran(life).await;
        process.kill();
    }
    let running = house.run(house.good::<Work>());
    let job = house.has(id, State::Failed).await;
    assert_eq!(house.seen.attempts(), [1, 2, 3, 4]);
    let errors: Vec<_> = job.errors.iter().map(|e| (e.attempt, e.error.as_str())).collect();
    let died = "it did not end: its worker died, or was away for longer than its lease";
    let all = "it had all its attempts, and did not end in the last one";
    assert_eq!(errors, [(1, died), (2, died), (3, died), (4, died), (5, all)]);
    assert_eq!(house.effects(id).await, [("failed".to_owned(), 5)]);
    running.end().await;
}

#[tokio::test]
async fn the_late_success_of_a_worker_that_was_frozen_is_ignored() {
    let house = House::new().await;
    let (thaw, frozen) = mpsc::channel::<()>();
    let frozen = std::sync::Mutex::new(frozen);
    // It blocks the only thread of its process, so nothing else of that goes on: no sign of life either.
    let freezing = house.script::<Work, _>(move |_| {
        let _ = frozen.lock().unwrap().recv();
        async { Ok(()) }
    });
    let process = Process::start(&house, freezing);
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;

    let running = house.run(house.failing::<Work>(2));
    let second = async || (house.has(id, State::Waiting).await.record.attempts == 2).then_some(());
    sandbox::testing::eventually("the failure of attempt 2", crate::house::PATIENCE, second).await;
    // For good: it may be the one that takes the third attempt.
    drop(thaw);
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 2, 3]);
    assert_eq!(
        house.effects(id).await,
        [("done".to_owned(), 3)],
        "the first one's counts for nothing"
    );
    running.end().await;
    process.kill();
}

#[tokio::test]
async fn a_worker_goes_on_when_the_database_ends_its_connections() {
    let house = House::new().await;
    let act = |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    };
    let process = Process::start(&house, house.script::<Work, _>(act));
    let mut ids = Vec::new();
    for _ in 0..5 {
        for _ in 0..20 {
            ids.push(house.enqueue::<Work>(Meta::new()).await);
        }
        let ended: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .fetch_one(&house.pool)
        .await
        .unwrap();
        assert!(ended > 0);
    }
    for id in ids {
        let gone = async || {
            let job = jobs::find(&house.pool, id).await;
            matches!(job, Ok(None)).then_some(())
        };
        sandbox::testing::eventually("the job to be done", crate::house::PATIENCE, gone).await;
        assert_eq!(house.effects(id).await.len(), 1, "done once, whatever was run twice");
    }
    process.kill();
}
