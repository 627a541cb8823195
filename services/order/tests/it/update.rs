use serde_json::json;

use crate::app::{App, Ask, Rows, an_order, an_order_with};

#[tokio::test]
async fn an_open_order_is_changed() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let items = json!([{ "sku": "pen", "quantity": 3, "unit_price": 250 }]);
    let answer = app.patch(&id).header("if-match", "\"1\"").json(&json!({ "items": items }));
    let answer = answer.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("etag"), "\"2\"");
    let order = answer.json();
    assert_eq!((&order["total"], &order["version"]), (&json!(750), &json!(2)));
    assert_eq!((&order["items"], &order["customer_email"]), (&items, &json!("ada@example.com")));

    // Any ETag of a list; then `*`.
    let change = json!({ "customer_email": "grace@example.com" });
    let list = "\"1\", W/\"9\", \"2\"";
    let answer = app.patch(&id).header("if-match", list).json(&change).answer().await;
    assert_eq!((answer.status, answer.header("etag")), (200, "\"3\""), "{}", answer.text);
    assert_eq!(answer.json()["items"], items);
    let both = json!({ "customer_email": "ada@example.com", "items": an_order()["items"] });
    let answer = app.patch(&id).header("if-match", "*").json(&both).answer().await;
    assert_eq!((answer.status, answer.header("etag")), (200, "\"4\""), "{}", answer.text);
    assert_eq!(app.get(&format!("/orders/{id}")).await.json(), answer.json());

    let events = app.events().await;
    let published: Vec<_> =
        events.iter().map(|event| (event.topic.as_str(), event.version())).collect();
    let updated = "order.updated";
    assert_eq!(published, [("order.created", 1), (updated, 2), (updated, 3), (updated, 4)]);
    assert_eq!(events[2].data()["customer_email"], json!("grace@example.com"));
    assert_eq!(events[2].data()["total"], json!(750));
}

#[tokio::test]
async fn a_change_must_say_which_version_it_changes() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let change = json!({ "customer_email": "grace@example.com" });
    app.patch(&id).json(&change).answer().await.assert_problem(428, "If-Match");
    for malformed in ["1", "\"1", "", "\"1\" \"2\"", "*, \"1\""] {
        let answer = app.patch(&id).header("if-match", malformed).json(&change).answer().await;
        answer.assert_problem(400, "If-Match must be");
    }
    // Weak ETags match nothing in `If-Match` (RFC 9110, 13.1.1).
    for stale in ["\"2\"", "\"0\"", "\"01\"", "W/\"1\"", "\"a\""] {
        let answer = app.patch(&id).header("if-match", stale).json(&change).answer().await;
        answer.assert_problem(412, "the ETag \"1\"");
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
    assert_eq!(app.get(&format!("/orders/{id}")).await.header("etag"), "\"1\"");
}

#[tokio::test]
async fn a_bad_change_is_refused_and_nothing_is_written() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let no_items = json!([{ "sku": "", "quantity": 0, "unit_price": 0 }]);
    for (change, status, message) in [
        (json!({}), 422, "items or customer_email must be given"),
        (json!({ "items": [] }), 422, "items must have"),
        (json!({ "items": no_items, "customer_email": "ada" }), 422, "items[0].quantity"),
        (json!({ "items": no_items, "customer_email": "ada" }), 422, "customer_email"),
        (json!({ "items": null }), 422, "items: invalid type: null"),
        (json!({ "customer_email": null }), 422, "null"),
        (json!({ "currency": "USD" }), 422, "currency"),
        (json!({ "status": "completed" }), 422, "status"),
    ] {
        let answer = app.patch(&id).header("if-match", "\"1\"").json(&change).answer().await;
        answer.assert_problem(status, message);
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
    assert_eq!(app.get(&format!("/orders/{id}")).await.header("etag"), "\"1\"");
}

#[tokio::test]
async fn a_completed_order_is_not_changed() {
    let app = App::start().await;
    let id = app.place(&an_order_with(json!({ "complete": true }))).await;
    let change = json!({ "customer_email": "grace@example.com" });
    for etag in ["\"2\"", "\"1\"", "*"] {
        let answer = app.patch(&id).header("if-match", etag).json(&change).answer().await;
        answer.assert_problem(409, "completed");
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 2 });
}

#[tokio::test]
async fn of_two_changes_of_one_version_one_is_made() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    for round in 1..=5 {
        let change = |name: &str| {
            let change = json!({ "customer_email": format!("{name}@example.com") });
            app.patch(&id).header("if-match", format!("\"{round}\"")).json(&change).answer()
        };
        let (a, b) = tokio::join!(change("a"), change("b"));
        let (made, refused) = if a.status == 200 { (a, b) } else { (b, a) };
        assert_eq!(made.status, 200, "{}", made.text);
        refused.assert_problem(412, &format!("\"{}\"", round + 1));
        assert_eq!(app.get(&format!("/orders/{id}")).await.json(), made.json());
        assert_eq!(app.rows().await.events, round + 1);
    }
}

#[tokio::test]
async fn whoever_takes_any_version_is_not_told_of_a_race() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let change = json!({ "customer_email": "grace@example.com" });
    let any = || app.patch(&id).header("if-match", "*").json(&change).answer();
    let (a, b, c) = tokio::join!(any(), any(), any());
    assert_eq!((a.status, b.status, c.status), (200, 200, 200));
    let versions: Vec<_> = app.events().await.iter().map(crate::app::Event::version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}
