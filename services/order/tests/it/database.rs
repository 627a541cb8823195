//! An unavailable database: requests fail with 503, and no order is lost or written twice.

use std::time::Duration;

use sandbox::testing::{TestSpace, eventually};

use crate::app::{Answer, App, Ask, Rows, an_order};

const PATIENCE: Duration = Duration::from_secs(30);

async fn placed(app: &App) -> Answer {
    app.post("/orders").json(&an_order()).header("idempotency-key", "one").answer().await
}

/// Places one order, repeating the request until it succeeds.
async fn is_placed_once(app: &App) {
    let taken = async || (placed(app).await.status == 201).then_some(());
    eventually("the order to be taken", PATIENCE, taken).await;
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 1, events: 2 });
}

#[tokio::test]
async fn while_the_database_is_read_only_orders_are_refused_and_can_be_read() {
    let space = TestSpace::new().await;
    let app = App::in_space(&space).await;
    let id = app.place(&an_order()).await;
    space.set_read_only(true).await;
    for _ in 0..20 {
        let answer = placed(&app).await;
        answer.assert_problem(503, "try again");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(app.get(&format!("/orders/{id}")).await.status, 200);
    space.set_read_only(false).await;
    is_placed_once(&app).await;
}

#[tokio::test]
async fn while_the_database_refuses_logins_callers_are_told_to_come_back() {
    let space = TestSpace::new().await;
    let app = App::in_space(&space).await;
    app.place(&an_order()).await;
    let role = app.pool.connect_options().get_username().to_owned();
    for (refuse, allow) in [("connection limit 0", "connection limit -1"), ("nologin", "login")] {
        space.as_superuser(&format!("alter role {role} {refuse}")).await;
        space.end_sessions().await;
        for _ in 0..2 {
            let answer = placed(&app).await;
            answer.assert_problem(503, "try again");
            assert_eq!(answer.header("retry-after"), "1");
        }
        app.get("/orders").await.assert_problem(503, "try again");
        space.as_superuser(&format!("alter role {role} {allow}")).await;
    }
    is_placed_once(&app).await;
}
