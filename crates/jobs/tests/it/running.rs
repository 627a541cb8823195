//! Tests of running jobs, and of workers that end.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jobs::{Meta, Options, State};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::house::{Brief, House, Work};

async fn many(house: &House, count: usize) {
    let works: Vec<_> = (0..count).map(|n| Work { name: n.to_string() }).collect();
    let mut tx = house.pool.begin().await.unwrap();
    jobs::enqueue_all(&mut tx, works.iter().map(|work| (work, Meta::new()))).await.unwrap();
    tx.commit().await.unwrap();
    house.wake.wake();
}

async fn drained(house: &House) {
    let count = "select count(*) from job";
    let empty = async || {
        let left: i64 = sqlx::query_scalar(count).fetch_one(&house.pool).await.unwrap();
        (left == 0).then_some(())
    };
    sandbox::testing::eventually("no jobs", crate::house::PATIENCE, empty).await;
}

#[tokio::test]
async fn two_workers_share_the_jobs_and_run_each_once() {
    let house = House::new().await;
    let (one, two) = (house.run(house.good::<Work>()), house.run(house.good::<Work>()));
    many(&house, 500).await;
    drained(&house).await;
    one.end().await;
    two.end().await;
    let ids: HashSet<_> = house.seen.runs.lock().unwrap().iter().map(|run| run.id).collect();
    assert_eq!((house.seen.count(), ids.len()), (500, 500));
}

#[tokio::test]
async fn a_kind_whose_target_is_dead_leaves_places_to_others() {
    let house = House::new().await;
    many(&house, 50).await;
    let worker = house.worker().handle(house.endless::<Work>()).handle(house.good::<Brief>());
    let running = crate::house::run(
        worker.options(Options { drain: Duration::from_millis(50), ..house.options.clone() }),
    );
    house.seen.ran(8).await;
    let brief = house.enqueue::<Brief>(Meta::new()).await;
    house.done(brief).await;
    assert_eq!(house.seen.most_at_once(), 9, "eight of the dead kind, and the other");
    running.end().await;
}

#[tokio::test]
async fn no_more_run_at_once_than_the_worker_may() {
    let mut house = House::new().await;
    house.options.concurrency = 3;
    let act = |_| async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(())
    };
    let running = house.run(house.script::<Work, _>(act));
    many(&house, 100).await;
    drained(&house).await;
    assert_eq!((house.seen.count(), house.seen.most_at_once()), (100, 3));
    running.end().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_what_runs() {
    let house = House::new().await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        house.script::<Work, _>(move |_| {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                Ok(())
            }
        })
    };
    let running = house.run(script);
    let id = house.enqueue::<Work>(Meta::new()).await;
    begun.notified().await;
    let mut ending = pin!(running.end());
    let ended = timeout(Duration::from_millis(300), &mut ending).await;
    assert!(ended.is_err(), "the worker ended before its job");
    go.notify_one();
    ending.await;
    assert_eq!(house.effects(id).await, [("done".to_owned(), 1)]);
}

#[tokio::test]
async fn a_shutdown_gives_back_what_does_not_end_and_its_attempt() {
    let mut house = House::new().await;
    house.options.drain = Duration::from_millis(50);
    house.options.lease = Duration::from_hours(1);
    let running = house.run(house.endless::<Work>());
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;
    running.end().await;
    let job = house.has(id, State::Waiting).await;
    assert_eq!((job.record.attempts, job.errors.len()), (0, 0));
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1]);
    running.end().await;
}

#[tokio::test]
async fn a_long_job_keeps_its_lease() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(600);
    let act = |_| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    };
    let script = || house.script::<Work, _>(act);
    let (one, two) = (house.run(script()), house.run(script()));
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1]);
    one.end().await;
    two.end().await;
}
