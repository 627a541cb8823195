//! Conditions under which tasks run, and their order.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use defer::{Defer, DeferLayer, Ended, Options, immediate};
use futures::FutureExt;
use tower_service::Service;

use crate::house::{House, PATIENCE, deferrer, words};

#[tokio::test]
async fn an_error_skips_tasks_but_those_that_run_always() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR] {
        let (words, mut recorded) = words();
        let house = House::new(move |defer| {
            defer.run("usual", words.task("usual"));
            defer.run("always", words.task("always")).always();
            async move { status.into_response() }
        });
        let house = house.await;
        assert_eq!(house.get().await.0, status.as_u16());
        assert_eq!(house.drained().await, 0);
        assert_eq!(recorded.rest(), ["always"], "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_no_error() {
    let (words, mut recorded) = words();
    let house = House::new(move |defer| {
        defer.run("usual", words.task("usual"));
        async { StatusCode::SEE_OTHER.into_response() }
    });
    let house = house.await;
    assert_eq!(house.get().await.0, 303);
    house.drained().await;
    assert_eq!(recorded.rest(), ["usual"]);
}

#[tokio::test]
async fn a_handler_that_panics_skips_like_an_error() {
    let (words, mut recorded) = words();
    let house = House::new(move |defer| {
        defer.run("usual", words.task("usual"));
        defer.run("always", words.task("always")).always();
        async { panic!("in the handler") }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    crate::house::send(&mut connection, "GET").await;
    assert_eq!(recorded.next().await, "always");
    house.drained().await;
    assert!(recorded.rest().is_empty());
}

#[tokio::test]
async fn a_drain_waits_for_a_request_whose_client_has_left() {
    let (words, mut recorded) = words();
    let house = House::new(move |defer| {
        let words = words.clone();
        async move {
            words.record("began");
            tokio::time::sleep(Duration::from_millis(100)).await;
            defer.run("late", words.task("late"));
            StatusCode::OK.into_response()
        }
    });
    let house = house.await;
    let mut connection = house.connect().await;
    crate::house::send(&mut connection, "GET").await;
    assert_eq!(recorded.next().await, "began");
    drop(connection);
    assert_eq!(house.drained().await, 0);
    assert_eq!(recorded.rest(), ["late"]);
}

#[tokio::test]
async fn a_drain_waits_for_a_response_that_is_not_yet_sent() {
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options::default());
    let handler = move |defer: Defer| {
        defer.run("after the response", words.task("after the response"));
        async { StatusCode::OK }
    };
    let mut app = Router::new().route("/", get(handler)).layer(DeferLayer::new(deferrer.clone()));
    let response = app.call(Request::new(Body::empty())).await.unwrap();
    let mut drained = Box::pin(deferrer.drain(PATIENCE));
    assert_eq!(drained.as_mut().now_or_never(), None);
    drop(response);
    assert_eq!(drained.await.dropped, 0);
    assert_eq!(recorded.rest(), ["after the response"]);
}

#[tokio::test]
async fn of_a_name_the_last_one_runs_and_what_is_forgotten_does_not() {
    let (words, mut recorded) = words();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    defer.in_order();
    defer.run("sync", words.task("first")).named("sync 17");
    defer.run("sync", words.task("other")).named("sync 18");
    defer.run("sync", words.task("last")).named("sync 17");
    defer.run("mail", words.task("mail")).named("mail");
    defer.forget("mail");
    defer.forget("nothing of this name");
    scope.end(Ended::Well);
    assert_eq!([recorded.next().await, recorded.next().await], ["other", "last"]);
    defer.finished().await;
    assert!(recorded.rest().is_empty());
}

#[tokio::test]
async fn tasks_run_side_by_side_or_in_their_order() {
    // Each waits for the other, so they would never end sequentially.
    let (said_a, mut recorded) = words();
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    for word in ["one", "two"] {
        let (barrier, words) = (barrier.clone(), said_a.clone());
        scope.defer().run("meet", async move {
            barrier.wait().await;
            words.record(word);
        });
    }
    scope.end(Ended::Well);
    let mut met = [recorded.next().await, recorded.next().await];
    met.sort_unstable();
    assert_eq!(met, ["one", "two"]);

    let scope = deferrer.scope();
    let defer = scope.defer();
    defer.in_order();
    let words = said_a.clone();
    defer.run("slow", async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        words.record("slow");
    });
    defer.run("quick", said_a.task("quick"));
    scope.end(Ended::Well);
    assert_eq!([recorded.next().await, recorded.next().await], ["slow", "quick"]);
}

#[tokio::test]
async fn one_that_fails_or_panics_costs_the_others_nothing() {
    let (words, mut recorded) = words();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    defer.in_order();
    defer.run("fails", async { Err::<(), _>(std::io::Error::other("no connection")) });
    defer.run("panics", async { assert!(std::hint::black_box(false), "out of order") });
    defer.run("runs", words.task("ran"));
    scope.end(Ended::Well);
    assert_eq!(recorded.next().await, "ran");
}

#[tokio::test]
async fn what_a_task_defers_runs_when_all_of_its_pass_have_ended() {
    let (words, mut recorded) = words();
    let scope = deferrer(Options::default()).scope();
    let defer = scope.defer();
    let (inner, sender) = (defer.clone(), words.clone());
    defer.in_order();
    defer.run("outer", async move {
        inner.run("inner", sender.task("second pass"));
    });
    defer.run("usual", words.task("first pass"));
    scope.end(Ended::Well);
    assert_eq!([recorded.next().await, recorded.next().await], ["first pass", "second pass"]);
}

#[tokio::test]
async fn held_tasks_run_only_if_the_transaction_committed() {
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let defer = scope.defer();
    let rolled_back = defer.after_commit();
    rolled_back.run("mail", words.task("rolled back")).always();
    drop(rolled_back);

    let committed = defer.after_commit();
    committed.run("mail", words.task("forgotten")).named("mail");
    committed.run("mail", words.task("committed")).named("mail");
    defer.run("mail", words.task("replaced")).named("mail");
    committed.committed();
    scope.end(Ended::Well);
    deferrer.drain(PATIENCE).await;
    assert_eq!(recorded.rest(), ["committed"]);
}

#[tokio::test]
async fn an_inner_scope_does_not_drain_the_outer_one() {
    let (words, mut recorded) = words();
    let deferrer = deferrer(Options::default());
    let (outer, inner) = (deferrer.scope(), deferrer.scope());
    outer.defer().run("outer", words.task("outer"));
    inner.defer().run("inner", words.task("inner"));
    inner.end(Ended::Well);
    assert_eq!(recorded.next().await, "inner");
    assert!(recorded.rest().is_empty());
    // Dropped like the scope of a message that could not be processed.
    outer.defer().run("always", words.task("always")).always();
    drop(outer);
    assert_eq!(recorded.next().await, "always");
    deferrer.drain(PATIENCE).await;
    assert!(recorded.rest().is_empty());
}

#[tokio::test]
async fn in_tests_tasks_run_at_once() {
    let (words, mut recorded) = words();
    let defer = immediate();
    defer.run("mail", words.task("ran")).named("mail").always();
    defer.finished().await;
    let held = defer.after_commit();
    held.run("mail", words.task("committed"));
    held.committed();
    defer.finished().await;
    assert_eq!(recorded.rest(), ["ran", "committed"]);
}
