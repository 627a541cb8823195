use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{Answer, App, Ask, Rows, an_order, an_order_with};

impl App {
    async fn cancel(&self, id: &str) -> Answer {
        self.post(&format!("/orders/{id}/cancel")).answer().await
    }

    async fn cancel_with(&self, id: &str, header: &'static str, value: &str) -> Answer {
        self.post(&format!("/orders/{id}/cancel")).header(header, value).answer().await
    }
}

fn completed() -> Value {
    an_order_with(json!({ "complete": true }))
}

#[tokio::test]
async fn an_open_and_a_completed_order_are_cancelled_once() {
    let app = App::start().await;
    let open = app.place(&an_order()).await;
    let completed = app.place(&completed()).await;
    for (id, version) in [(&open, 2), (&completed, 3)] {
        let before = app.get(&format!("/orders/{id}")).await.json();
        let first = app.cancel(id).await;
        assert_eq!(first.status, 200, "{}", first.text);
        assert_eq!(first.header("etag"), format!("\"{version}\""));
        let order = first.json();
        assert_eq!((&order["status"], &order["version"]), (&json!("cancelled"), &json!(version)));
        assert!(order["cancelled_at"].as_str() > order["created_at"].as_str());
        // All other fields are unchanged.
        let mut rest = order.clone();
        rest.as_object_mut().unwrap().remove("cancelled_at");
        rest["status"] = before["status"].clone();
        rest["version"] = before["version"].clone();
        assert_eq!(rest, before);

        assert_eq!(app.cancel(id).await.lasting(), first.lasting());
        assert_eq!(app.get(&format!("/orders/{id}")).await.json(), order);
    }
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 0, events: 5 });
    let events = app.events().await;
    let cancelled: Vec<_> = events.iter().filter(|it| it.topic == "order.cancelled").collect();
    let facts = |n: usize| (cancelled[n].key.clone(), cancelled[n].version());
    assert_eq!([facts(0), facts(1)], [(open.clone(), 2), (completed.clone(), 3)]);
    let [open, completed] = [cancelled[0].data(), cancelled[1].data()];
    assert_eq!(open.get("completed_at"), None);
    assert_eq!(completed["completed_at"], events[2].data()["completed_at"]);
    assert_eq!(completed["items"], an_order()["items"]);
    assert_eq!((&open["status"], &completed["status"]), (&json!("cancelled"), &json!("cancelled")));
}

#[tokio::test]
async fn a_cancelled_order_is_neither_completed_nor_changed_and_is_listed_as_such() {
    let app = App::start().await;
    for order in [an_order(), completed()] {
        let id = app.place(&order).await;
        let cancelled = app.cancel(&id).await.json();
        let rows = app.rows().await;
        app.post(&format!("/orders/{id}/complete")).answer().await.assert_problem(409, "cancelled");
        let change = json!({ "customer_email": "grace@example.com" });
        let changed = app.patch(&id).header("if-match", "*").json(&change).answer().await;
        changed.assert_problem(409, "the order is cancelled and can't be changed");
        assert_eq!(app.rows().await, rows);
        for list in ["/orders?limit=1", "/orders?limit=1&customer_email=ada@example.com"] {
            assert_eq!(app.get(list).await.json()["orders"][0], cancelled, "{list}");
        }
    }
}

#[tokio::test]
async fn a_version_that_was_not_seen_is_not_cancelled() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    app.cancel_with(&id, "if-match", "\"2\"").await.assert_problem(412, "the ETag \"1\"");
    app.cancel_with(&id, "if-match", "1").await.assert_problem(400, "If-Match must be");
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
    let answer = app.cancel_with(&id, "if-match", "\"1\"").await;
    assert_eq!((answer.status, answer.header("etag")), (200, "\"2\""), "{}", answer.text);
    assert_eq!(app.cancel_with(&id, "if-match", "*").await.status, 200);
    app.cancel_with(&id, "if-match", "\"1\"").await.assert_problem(412, "the ETag \"2\"");
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 2 });
}

#[tokio::test]
async fn a_key_gets_the_answer_that_it_got_whatever_came_after() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let complete = || {
        let request = app.post(&format!("/orders/{id}/complete"));
        request.header("idempotency-key", "first").answer()
    };
    let completed = complete().await;
    assert_eq!(completed.status, 200, "{}", completed.text);
    let cancel = || {
        let request = app.post(&format!("/orders/{id}/cancel")).header("if-match", "\"2\"");
        request.header("idempotency-key", "second").answer()
    };
    let cancelled = cancel().await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    // A repeated request gets its first response, although the order has since been cancelled and
    // has another version.
    assert_eq!(complete().await.lasting(), completed.lasting());
    assert_eq!(cancel().await.lasting(), cancelled.clone().lasting());
    // A key is used up even by a request that changed nothing.
    assert_eq!(
        app.cancel_with(&id, "idempotency-key", "third").await.lasting(),
        cancelled.lasting()
    );
    let other = app.place(&an_order()).await;
    let reused = app.cancel_with(&other, "idempotency-key", "third").await;
    reused.assert_problem(422, "Idempotency-Key");
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 3, events: 4 });
}

#[tokio::test]
async fn an_order_that_many_complete_and_cancel_at_once_is_cancelled_in_the_end() {
    let app = App::start().await;
    for _ in 0..5 {
        let id = app.place(&an_order()).await;
        let send = |n: usize| {
            let act = if n.is_multiple_of(2) { "complete" } else { "cancel" };
            app.post(&format!("/orders/{id}/{act}")).answer()
        };
        for (n, answer) in join_all((0..8).map(send)).await.iter().enumerate() {
            let refused = n.is_multiple_of(2) && answer.status == 409;
            assert!(answer.status == 200 || refused, "{} {}", answer.status, answer.text);
        }
        let order = app.get(&format!("/orders/{id}")).await.json();
        assert_eq!(order["status"], "cancelled");
        let events = app.events().await;
        let of_order = events.iter().filter(|event| event.key == id);
        let published: Vec<_> = of_order.map(|event| event.topic.as_str()).collect();
        let completed = ["order.created", "order.completed", "order.cancelled"];
        let expected = if order.get("completed_at").is_some() {
            &completed[..]
        } else {
            &["order.created", "order.cancelled"]
        };
        assert_eq!(published, expected);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_cancelled() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    for unknown in [Uuid::now_v7().to_string().as_str(), "7", "%00"] {
        app.cancel(unknown).await.assert_problem(404, "there is no");
    }
    let path = format!("/orders/{id}/cancel");
    let other = app.request_as("demo-globex", Method::POST, &path).answer().await;
    other.assert_problem(404, "there is no order");
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
}
