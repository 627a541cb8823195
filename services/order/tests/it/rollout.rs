//! Rollout of cancellation: first a release that reads cancelled orders, then the switch.

use order::Cancellation;
use sandbox::testing::TestSpace;
use serde_json::json;

use crate::app::{App, Ask, Rows, an_order, an_order_with};

#[tokio::test]
async fn an_instance_that_does_not_cancel_yet_reads_what_another_one_cancelled() {
    let space = TestSpace::new().await;
    let switched =
        |cancellation| move |config: &mut order::Config| config.cancellation = cancellation;
    let off = App::in_space_with(&space, switched(Cancellation::Off)).await;
    let id = off.place(&an_order()).await;
    let cancel = format!("/orders/{id}/cancel");
    let refused = off.post(&cancel).header("idempotency-key", "k").answer().await;
    refused.assert_problem(409, "orders can't be cancelled, because CANCELLATION is off");
    assert_eq!(off.rows().await, Rows { orders: 1, keys: 0, events: 1 }, "nothing is written");

    let on = App::in_space_with(&space, switched(Cancellation::On)).await;
    let cancelled = on.post(&cancel).header("idempotency-key", "k").answer().await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert_eq!(off.get(&format!("/orders/{id}")).await.json(), cancelled.json());
    assert_eq!(off.get("/orders").await.json()["orders"][0], cancelled.json());
    // The order is in the requested state, whichever instance cancelled it.
    assert_eq!(off.post(&cancel).answer().await.lasting(), cancelled.clone().lasting());
    let same = off.post(&cancel).header("idempotency-key", "k").answer().await;
    assert_eq!(same.lasting(), cancelled.lasting());
    off.post(&format!("/orders/{id}/complete")).answer().await.assert_problem(409, "cancelled");
    let change = json!({ "customer_email": "grace@example.com" });
    let changed = off.patch(&id).header("if-match", "*").json(&change).answer().await;
    changed.assert_problem(409, "cancelled");
    assert_eq!(off.rows().await, Rows { orders: 1, keys: 1, events: 2 });
}

/// Statement of the releases before cancellation, which know two states and derive them from
/// `completed_at`.
const UPDATE_BEFORE: &str = "
    update orders
    set version = $3, status = $4, customer_email = customer_email, items = items, total = total,
        completed_at = case when $4 = 'completed' then coalesce(completed_at, now()) end
    where id = $1::uuid and tenant_id = $2 and version = $3 - 1";

#[tokio::test]
async fn a_release_from_before_cancellation_can_not_write_a_cancelled_order() {
    let app = App::start().await;
    let open = app.place(&an_order()).await;
    let completed = app.place(&an_order_with(json!({ "complete": true }))).await;
    let write = async |id: &str, version: i64, status: &str| {
        let written = sqlx::query(UPDATE_BEFORE).bind(id).bind("acme").bind(version).bind(status);
        written.execute(&app.pool).await.map(|done| done.rows_affected())
    };
    // Changes of other orders still succeed.
    assert_eq!(write(&open, 2, "open").await.unwrap(), 1);
    for (id, version) in [(&open, 4), (&completed, 4)] {
        let cancelled = app.post(&format!("/orders/{id}/cancel")).answer().await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text);
        for status in ["open", "completed"] {
            let error = write(id, version, status).await.expect_err(status);
            let constraint = error.as_database_error().and_then(|it| it.constraint());
            assert_eq!(constraint, Some("orders_status"), "{error}");
        }
        assert_eq!(app.get(&format!("/orders/{id}")).await.json(), cancelled.json());
    }
    let validated: bool = sqlx::query_scalar(
        "select convalidated from pg_constraint where conname = 'orders_status'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!(validated, "rows from before the rule are checked too");
}
