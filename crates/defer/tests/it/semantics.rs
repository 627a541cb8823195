//! Conditions under which tasks run, and their order.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use defer::{Ended, Options, immediate};

use crate::house::{House, deferrer, said};

#[tokio::test]
async fn an_error_skips_tasks_but_those_that_run_always() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR] {
        let (said, mut heard) = said();
        let house = House::new(move |defer| {
            defer.run("usual", said.task("usual"));
            defer.run("always", said.task("always")).always();
            async move { status.into_response() }
        });
        let house = house.await;
        assert_eq!(house.get().await.0, status.as_u16());
        assert_eq!(house.drained().await, 0);
        assert_eq!(heard.rest(), ["always"], "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_no_error() {
    let (said, mut heard) = said();
    let house = House::new(move |defer| {
        defer.run("usual", said.task("usual"));
        async { StatusCode::SEE_OTHER.into_response() }
    });
    let house = house.await;
    assert_eq!(house.get().await.0, 303);
    house.drained().await;
    assert_eq!(heard.rest(), ["usual"]);
}

#[tokio::test]
async fn a_handler_that_panics_skips_like_an_error() {
    let (said, mut heard) = said();
    let house = House::new(move |defer| {
        defer.run("usual", said.task("usual"));
        defer.run("always", said.task("always")).always();
        async { panic!("in the handler") }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    crate::house::send(&mut connection, "GET").await;
    assert_eq!(heard.next().await, "always");
    house.drained().await;
    assert!(heard.rest().is_empty());
}

#[tokio::test]
async fn of_a_name_the_last_one_runs_and_what_is_forgotten_does_not() {
    let (said, mut heard) = said();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    defer.in_order();
    defer.run("sync", said.task("first")).named("sync 17");
    defer.run("sync", said.task("other")).named("sync 18");
    defer.run("sync", said.task("last")).named("sync 17");
    defer.run("mail", said.task("mail")).named("mail");
    defer.forget("mail");
    defer.forget("nothing of this name");
    scope.end(Ended::Well);
    assert_eq!([heard.next().await, heard.next().await], ["other", "last"]);
    defer.finished().await;
    assert!(heard.rest().is_empty());
}

#[tokio::test]
async fn tasks_run_side_by_side_or_in_their_order() {
    // Each waits for the other, so they would never end sequentially.
    let (said_a, mut heard) = said();
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    for word in ["one", "two"] {
        let (barrier, said) = (barrier.clone(), said_a.clone());
        scope.defer().run("meet", async move {
            barrier.wait().await;
            said.say(word);
        });
    }
    scope.end(Ended::Well);
    let mut met = [heard.next().await, heard.next().await];
    met.sort_unstable();
    assert_eq!(met, ["one", "two"]);

    let scope = deferrer.scope();
    let defer = scope.defer();
    defer.in_order();
    let said = said_a.clone();
    defer.run("slow", async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        said.say("slow");
    });
    defer.run("quick", said_a.task("quick"));
    scope.end(Ended::Well);
    assert_eq!([heard.next().await, heard.next().await], ["slow", "quick"]);
}

#[tokio::test]
async fn one_that_fails_or_panics_costs_the_others_nothing() {
    let (said, mut heard) = said();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    defer.in_order();
    defer.run("fails", async { Err::<(), _>(std::io::Error::other("no connection")) });
    defer.run("panics", async { assert!(std::hint::black_box(false), "out of order") });
    defer.run("runs", said.task("ran"));
    scope.end(Ended::Well);
    assert_eq!(heard.next().await, "ran");
}

#[tokio::test]
async fn what_a_task_defers_runs_when_all_of_its_pass_have_ended() {
    let (said, mut heard) = said();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    let (inner, words) = (defer.clone(), said.clone());
    defer.in_order();
    defer.run("outer", async move {
        inner.run("inner", words.task("second pass"));
    });
    defer.run("usual", said.task("first pass"));
    scope.end(Ended::Well);
    assert_eq!([heard.next().await, heard.next().await], ["first pass", "second pass"]);
}

#[tokio::test]
async fn held_tasks_run_only_if_the_transaction_committed() {
    let (said, mut heard) = said();
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let defer = scope.defer();
    let rolled_back = defer.after_commit();
    rolled_back.run("mail", said.task("rolled back")).always();
    drop(rolled_back);

    let committed = defer.after_commit();
    committed.run("mail", said.task("forgotten")).named("mail");
    committed.run("mail", said.task("committed")).named("mail");
    defer.run("mail", said.task("replaced")).named("mail");
    committed.committed();
    scope.end(Ended::Well);
    deferrer.drain(crate::house::PATIENCE).await;
    assert_eq!(heard.rest(), ["committed"]);
}

#[tokio::test]
async fn an_inner_scope_does_not_drain_the_outer_one() {
    let (said, mut heard) = said();
    let deferrer = deferrer(Options::default());
    let (outer, inner) = (deferrer.scope(), deferrer.scope());
    outer.defer().run("outer", said.task("outer"));
    inner.defer().run("inner", said.task("inner"));
    inner.end(Ended::Well);
    assert_eq!(heard.next().await, "inner");
    assert!(heard.rest().is_empty());
    // Dropped like the scope of a message that could not be processed.
    outer.defer().run("always", said.task("always")).always();
    drop(outer);
    assert_eq!(heard.next().await, "always");
    deferrer.drain(crate::house::PATIENCE).await;
    assert!(heard.rest().is_empty());
}

#[tokio::test]
async fn in_tests_tasks_run_at_once() {
    let (said, mut heard) = said();
    let defer = immediate();
    defer.run("mail", said.task("ran")).named("mail").always();
    defer.finished().await;
    let held = defer.after_commit();
    held.run("mail", said.task("committed"));
    held.committed();
    defer.finished().await;
    assert_eq!(heard.rest(), ["ran", "committed"]);
}
