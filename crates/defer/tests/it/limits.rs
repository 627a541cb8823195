//! Tasks that take too long, too many tasks, and the end of the process.

use std::future::pending;
use std::time::Duration;

use defer::{Defer, Ended, Options};

use crate::house::{PATIENCE, deferrer, words};

fn hangs(defer: &Defer, label: &'static str) {
    defer.run(label, pending::<()>());
}

#[tokio::test(start_paused = true)]
async fn a_task_has_a_time_limit() {
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    hangs(&scope.defer(), "hangs");
    scope
        .defer()
        .run("longer", tokio::time::sleep(Duration::from_secs(8)))
        .time_limit(Duration::from_secs(9));
    let began = tokio::time::Instant::now();
    scope.end(Ended::Well);
    let drained = deferrer.drain(Duration::from_mins(1)).await;
    assert_eq!(drained.dropped, 0);
    assert_eq!(began.elapsed().as_secs(), 8, "the one has five seconds, the other took eight");
}

#[tokio::test]
async fn a_dead_target_fills_only_its_own_label() {
    let (words, mut recorded) = words();
    let options = Options { max_running: 2, max_waiting: 3, ..Options::default() };
    let deferrer = deferrer(options);
    for _ in 0..10 {
        let scope = deferrer.scope();
        hangs(&scope.defer(), "dead");
        scope.end(Ended::Well);
    }
    let scope = deferrer.scope();
    scope.defer().run("alive", words.task("ran"));
    scope.end(Ended::Well);
    assert_eq!(recorded.next().await, "ran");
    // Five tasks have room; the others were dropped at once, and these are dropped now.
    let drained = deferrer.drain(Duration::from_millis(50)).await;
    assert_eq!(drained.dropped, 10);
}

#[tokio::test]
async fn what_waits_for_its_turn_gets_it() {
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options { max_running: 1, ..Options::default() });
    for word in ["one", "two", "three"] {
        let scope = deferrer.scope();
        scope.defer().run("same", words.task(word));
        scope.end(Ended::Well);
    }
    assert_eq!(deferrer.drain(PATIENCE).await.dropped, 0);
    assert_eq!(recorded.rest().len(), 3);
}

#[tokio::test]
async fn tasks_can_not_defer_tasks_for_ever() {
    fn again(defer: Defer, words: crate::house::Words) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(async move {
            words.record("again");
            let (next, words) = (defer.clone(), words.clone());
            defer.run("again", again(next, words));
        })
    }
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options { max_passes: 3, ..Options::default() });
    let scope = deferrer.scope();
    let defer = scope.defer();
    defer.run("again", again(defer.clone(), words));
    scope.end(Ended::Well);
    assert_eq!(deferrer.drain(PATIENCE).await.dropped, 1);
    assert_eq!(recorded.rest(), ["again"; 3]);
    // The scope is closed, so the task is dropped and counted.
    hangs(&defer, "late");
    assert_eq!(deferrer.drain(PATIENCE).await.dropped, 2);
}

#[tokio::test]
async fn the_end_waits_for_tasks_and_then_drops_them() {
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let sender = words.clone();
    scope.defer().run("quick", async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        sender.record("quick");
    });
    hangs(&scope.defer(), "hangs");
    scope.end(Ended::Well);
    assert_eq!(deferrer.drain(Duration::from_secs(1)).await.dropped, 1);
    assert_eq!(recorded.rest(), ["quick"]);
    // A scope that ends after the deferrer was drained.
    let scope = deferrer.scope();
    scope.defer().run("late", words.task("late"));
    scope.end(Ended::Well);
    assert_eq!(deferrer.drain(PATIENCE).await.dropped, 2);
    assert!(recorded.rest().is_empty());
}
