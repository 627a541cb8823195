//! Changes that can't be written yet: which of them wait, how long, and whether they delay others.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sandbox::testing::{TestSpace, eventually, statements_wait_for_a_lock};
use serde_json::json;

use crate::app::{Answer, App, Ask, Rows, an_order, an_order_with};
use crate::gate::Gate;

const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);

impl App {
    async fn place_many(&self, orders: usize) -> Vec<Answer> {
        let order = an_order();
        join_all((0..orders).map(|_| self.post("/orders").json(&order).answer())).await
    }

    async fn place_keyed(&self, key: &str) -> Answer {
        self.post("/orders").json(&an_order()).header("idempotency-key", key).answer().await
    }

    async fn complete_all(&self, ids: &[String]) -> Vec<Answer> {
        let complete = |id| self.post(&format!("/orders/{id}/complete")).answer();
        join_all(ids.iter().map(complete)).await
    }

    async fn is_placed_in_the_end(&self) {
        let placed = async || (self.place_many(1).await[0].status == 201).then_some(());
        eventually("an order to be placed", PATIENCE, placed).await;
    }

    async fn waits_for(&self, changes: i64) {
        let waiting =
            async || (self.metric("order_changes_waiting").await == changes).then_some(());
        eventually(&format!("{changes} changes that wait"), SOON, waiting).await;
    }

    /// Returns the number of statements that wait for a lock.
    async fn locked(&self) -> i64 {
        let count = "select count(*) from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar(count).fetch_one(&self.pool).await.unwrap()
    }
}

async fn behind_a_gate() -> (Gate, App) {
    let space = TestSpace::new().await;
    let gate = Gate::new(space.database_url()).await;
    let app = App::behind(&gate.url, &space).await;
    (gate, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_refuses_connections_all_are_answered_in_time_and_none_is_written() {
    let (mut gate, app) = behind_a_gate().await;
    app.place(&an_order()).await;
    gate.close().await;
    let began = Instant::now();
    let answers = app.place_many(300).await;
    let took = began.elapsed();
    for answer in answers {
        answer.assert_problem(503, "try again");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert!(took < Duration::from_secs(6), "{took:?}");
    gate.open().await;
    app.is_placed_in_the_end().await;
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 0, events: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_beyond_what_may_wait_are_refused_at_once() {
    let (mut gate, app) = behind_a_gate().await;
    gate.close().await;
    let lines = vec![json!({ "sku": "x".repeat(64), "quantity": 1, "unit_price": 1 }); 100];
    let order = an_order_with(json!({ "items": lines, "complete": true }));
    let placed = (0..500).map(|n| {
        let request = app.post("/orders").json(&order).header("idempotency-key", format!("k{n}"));
        async {
            let began = Instant::now();
            (request.answer().await, began.elapsed())
        }
    });
    let answers = join_all(placed).await;
    let refused = answers.iter().filter(|(answer, _)| answer.text.contains("too many changes"));
    let refused: Vec<_> = refused.collect();
    assert!((10..490).contains(&refused.len()), "{} are refused", refused.len());
    for (answer, took) in &refused {
        answer.assert_problem(503, "with the same Idempotency-Key");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(*took < Duration::from_secs(4), "{took:?}");
    }
    assert!(answers.iter().all(|(answer, _)| answer.status == 503));
    assert_eq!(app.rows().await, Rows { orders: 0, keys: 0, events: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_hold_up_writes_for_a_limited_time() {
    let (gate, app) = behind_a_gate().await;
    assert!(app.place_many(40).await.iter().all(|it| it.status == 201));
    let frozen = Instant::now();
    gate.freeze_connections();
    let mut placed = 40;
    while frozen.elapsed() < PATIENCE {
        let asked = Instant::now();
        let statuses: Vec<_> = app.place_many(10).await.iter().map(|it| it.status).collect();
        assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
        assert!(asked.elapsed() < Duration::from_secs(18), "{:?}", asked.elapsed());
        let written = statuses.iter().filter(|status| **status == 201).count();
        placed += i64::try_from(written).unwrap();
        if written == 10 {
            break;
        }
    }
    let took = frozen.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(app.rows().await, Rows { orders: placed, keys: 0, events: placed });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_hung_up_before_it_was_sent_is_not_written() {
    let (mut gate, app) = behind_a_gate().await;
    app.place(&an_order()).await;
    gate.close().await;
    let hang_up = Duration::from_millis(500);
    let order = an_order();
    // Idle connections of the pool fail at once.
    let waits = async || {
        let request = app.post("/orders").json(&order).timeout(hang_up);
        request.send().await.is_err_and(|error| error.is_timeout()).then_some(())
    };
    eventually("a request that waits for a connection", PATIENCE, waits).await;
    app.waits_for(0).await;
    let requests =
        join_all((0..8).map(|_| app.post("/orders").json(&order).timeout(hang_up).send()));
    let (answers, ()) = tokio::join!(requests, app.waits_for(8));
    assert!(answers.into_iter().all(|it| it.is_err_and(|error| error.is_timeout())));
    app.waits_for(0).await;
    gate.open().await;
    app.is_placed_in_the_end().await;
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 0, events: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_one_locked_order_take_one_connection() {
    let app = App::start().await;
    let held = vec![app.place(&an_order()).await; 30];
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("select from orders for update").execute(&mut *other).await.unwrap();
    let others = async {
        app.waits_for(29).await;
        statements_wait_for_a_lock(&app.pool, 1, SOON).await;
        let began = Instant::now();
        let placed = app.place_many(20).await;
        let took = began.elapsed();
        let locked = app.locked().await;
        other.rollback().await.unwrap();
        (placed, took, locked)
    };
    let (completed, (placed, took, locked)) = tokio::join!(app.complete_all(&held), others);
    assert!(placed.iter().all(|it| it.status == 201), "{placed:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(locked, 1, "statements that wait for the lock");
    assert!(completed.iter().all(|it| it.status == 200), "{completed:?}");
    assert_eq!(app.rows().await, Rows { orders: 21, keys: 0, events: 22 });
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_many_locked_orders_leave_connections_to_others() {
    let app = App::start().await;
    let placed = app.place_many(20).await;
    let held = placed.iter().map(|it| it.json()["id"].as_str().unwrap().to_owned());
    let held: Vec<_> = held.collect();
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("select from orders for update").execute(&mut *other).await.unwrap();
    let others = async {
        app.waits_for(16).await;
        statements_wait_for_a_lock(&app.pool, 4, SOON).await;
        let began = Instant::now();
        let placed = app.place_many(20).await;
        let (took, locked) = (began.elapsed(), app.locked().await);
        other.rollback().await.unwrap();
        (placed, took, locked)
    };
    let (completed, (placed, took, locked)) = tokio::join!(app.complete_all(&held), others);
    assert!(placed.iter().all(|it| it.status == 201), "{placed:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(locked, 4, "statements that wait for locks: a quarter of the connections");
    assert!(completed.iter().all(|it| it.status == 200), "{completed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_twice_at_once_holds_up_nobody_else() {
    let app = App::start().await.with_slow_statements("0.6").await;
    let first = app.place_keyed("k");
    let later = async {
        eventually("the first statement", SOON, async || app.is_writing().await.then_some(()))
            .await;
        let strangers = async {
            let began = Instant::now();
            (app.place_many(40).await, began.elapsed())
        };
        tokio::join!(app.place_keyed("k"), strangers)
    };
    let (first, (second, (strangers, took))) = tokio::join!(first, later);
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(second.lasting(), first.lasting());
    assert!(strangers.iter().all(|it| it.status == 201), "{strangers:?}");
    assert_eq!(app.rows().await, Rows { orders: 41, keys: 1, events: 41 });
    // One more statement may be executed before theirs.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let transactions = app.transactions().await;
    assert!(transactions <= 4, "{transactions} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_session_that_is_ended_are_not_sent_again() {
    let space = TestSpace::new().await;
    let app = App::in_space(&space).await.with_slow_statements("1").await;
    let end = async {
        eventually("a statement", SOON, async || app.is_writing().await.then_some(())).await;
        space.end_sessions().await;
    };
    let (answers, ()) = tokio::join!(app.place_many(2), end);
    for answer in answers {
        answer.assert_problem(503, "try again");
    }
    let rows = async || sqlx::query("select from orders").fetch_all(&app.pool).await.ok();
    let rows = eventually("an answer", PATIENCE, rows).await;
    assert_eq!(rows.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_overtaken_costs_one_statement_in_vain() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let app = app.with_slow_statements("0.4").await;
    let before = app.metric("order_changes_batch_count").await;
    let change = |email: &str| {
        let request = app.patch(&id).header("if-match", "*");
        request.json(&json!({ "customer_email": email })).answer()
    };
    let second = async {
        eventually("the first statement", SOON, async || app.is_writing().await.then_some(()))
            .await;
        change("grace@example.com").await
    };
    let (first, second) = tokio::join!(change("eve@example.com"), second);
    assert_eq!((first.status, second.status), (200, 200), "{} {}", first.text, second.text);
    assert_eq!(second.json()["customer_email"], "grace@example.com");
    let statements = app.metric("order_changes_batch_count").await - before;
    assert_eq!(statements, 3);
}
