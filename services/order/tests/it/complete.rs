use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::app::{App, Ask, Rows, an_order};

#[tokio::test]
async fn completing_twice_is_completing_once() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let complete = || app.post(&format!("/orders/{id}/complete")).answer();
    let first = complete().await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.header("etag"), "\"2\"");
    let order = first.json();
    assert_eq!((&order["status"], &order["version"]), (&json!("completed"), &json!(2)));
    assert!(order["completed_at"].as_str() > order["created_at"].as_str());

    assert_eq!(complete().await.lasting(), first.lasting());
    assert_eq!(app.get(&format!("/orders/{id}")).await.json(), order);
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 2 });
    let events = app.events().await;
    assert_eq!((events[1].topic.as_str(), events[1].version()), ("order.completed", 2));
}

#[tokio::test]
async fn an_order_that_many_complete_at_once_is_completed_once() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let path = format!("/orders/{id}/complete");
    let answers = join_all((0..10).map(|_| app.post(&path).answer())).await;
    let first = answers[0].clone().lasting();
    assert_eq!(first.status, 200, "{}", first.text);
    for answer in answers {
        assert_eq!(answer.lasting(), first);
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 2 });
}

#[tokio::test]
async fn a_change_meanwhile_is_completed_too() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    // The other transaction holds the order's lock, so the request has read version 1 when version
    // 2 is committed.
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("update orders set version = 2, customer_email = 'grace@example.com'")
        .execute(&mut *other)
        .await
        .unwrap();
    let completing = tokio::spawn(app.post(&format!("/orders/{id}/complete")).answer());
    app.waits_for_a_lock().await;
    other.commit().await.unwrap();
    let answer = completing.await.unwrap();
    assert_eq!((answer.status, answer.header("etag")), (200, "\"3\""), "{}", answer.text);
    let events = app.events().await;
    assert_eq!(events[1].data()["customer_email"], json!("grace@example.com"));
    assert_eq!((events.len(), events[1].version()), (2, 3));
}

#[tokio::test]
async fn a_version_that_the_caller_has_not_seen_is_not_completed() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let change = json!({ "customer_email": "grace@example.com" });
    app.patch(&id).header("if-match", "\"1\"").json(&change).answer().await;
    let path = format!("/orders/{id}/complete");
    let complete = |etag: &str| app.post(&path).header("if-match", etag).answer();
    let stale = complete("\"1\"").await;
    stale.assert_problem(412, "\"2\"");
    complete("1").await.assert_problem(400, "If-Match");
    let order = app.get(&format!("/orders/{id}")).await.json();
    assert_eq!((&order["status"], app.rows().await.events), (&json!("open"), 2));

    let with_key =
        || app.post(&path).header("if-match", "\"2\"").header("idempotency-key", "once").answer();
    let completed = with_key().await;
    assert_eq!((completed.status, completed.header("etag")), (200, "\"3\""), "{}", completed.text);
    // Only a repetition with the same key may name the version that it has changed itself.
    assert_eq!(with_key().await.lasting(), completed.clone().lasting());
    complete("\"2\"").await.assert_problem(412, "\"3\"");
    for etag in ["\"3\"", "*"] {
        assert_eq!(complete(etag).await.lasting(), completed.clone().lasting(), "{etag}");
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 1, events: 3 });
}

#[tokio::test]
async fn what_is_not_there_is_not_completed() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    for unknown in [Uuid::now_v7().to_string().as_str(), "7", "%00"] {
        let answer = app.post(&format!("/orders/{unknown}/complete")).answer().await;
        answer.assert_problem(404, "there is no");
    }
    let path = format!("/orders/{id}/complete");
    let other = app.request_as("demo-globex", Method::POST, &path).answer().await;
    other.assert_problem(404, "there is no order");
    let with_body = app.post(&path).json(&json!({ "force": true })).answer().await;
    with_body.assert_problem(422, "the body");
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
}
