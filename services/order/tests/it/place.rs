use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, App, Ask, Rows, an_order, an_order_with};

#[tokio::test]
async fn an_order_is_placed() {
    let app = App::start().await;
    let answer = app.post("/orders").json(&an_order()).answer().await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let order = answer.json();
    let id = order["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/orders/{id}"));
    assert_eq!(answer.header("etag"), "\"1\"");
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.header("x-correlation-id").is_empty());
    let created_at = order["created_at"].as_str().unwrap();
    assert!(created_at.ends_with('Z'), "{created_at} is UTC");
    assert_eq!(
        order,
        an_order_with(json!({
            "id": id,
            "tenant_id": "acme",
            "version": 1,
            "status": "open",
            "total": 2440,
            "created_at": created_at,
        }))
    );
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
    // The stored row equals the response, to the microsecond.
    assert_eq!(app.get(&format!("/orders/{id}")).await.json(), order);
}

#[tokio::test]
async fn an_order_is_placed_and_completed_at_once() {
    let app = App::start().await;
    let answer =
        app.post("/orders").json(&an_order_with(json!({ "complete": true }))).answer().await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("etag"), "\"2\"");
    let order = answer.json();
    assert_eq!(order["version"], json!(2));
    assert_eq!(order["status"], json!("completed"));
    assert_eq!(order["completed_at"], order["created_at"]);
    assert_eq!(app.get(answer.header("location")).await.json(), order);

    // Both rows were written by one transaction, in one statement.
    let transactions: i64 = sqlx::query_scalar(
        "select count(distinct xmin::text)
         from (select xmin from outbox union all select xmin from orders) written",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(transactions, 1);
    let events = app.events().await;
    let published: Vec<_> =
        events.iter().map(|event| (event.topic.as_str(), event.version())).collect();
    assert_eq!(published, [("order.created", 1), ("order.completed", 2)]);
    assert_eq!(events[0].data()["status"], json!("open"));
    assert_eq!(events[1].data()["status"], json!("completed"));
    assert_eq!(events[1].data()["completed_at"], order["completed_at"]);
}

/// Returns an order with these items.
fn items(items: &Value) -> Value {
    an_order_with(json!({ "items": items }))
}

#[tokio::test]
async fn an_order_that_breaks_a_rule_is_refused_and_nothing_is_written() {
    let app = App::start().await;
    let item = |sku: &str, quantity: i64, unit_price: i64| json!([{ "sku": sku, "quantity": quantity, "unit_price": unit_price }]);
    let many = |count| items(&json!(vec![item("a", 1, 1)[0].clone(); count]));
    for (order, message) in [
        (many(0), "items must have 1 to 100 entries"),
        (many(101), "items must have 1 to 100 entries"),
        (items(&item(" ", 1, 1)), "items[0].sku must be"),
        (items(&item(&"x".repeat(65), 1, 1)), "items[0].sku must be"),
        (items(&item("a\0b", 1, 1)), "items[0].sku must be"),
        (items(&item("a", 0, 1)), "items[0].quantity must be 1 to 1000000"),
        (items(&item("a", -1, 1)), "items[0].quantity must be"),
        (items(&item("a", i64::MAX, 1)), "items[0].quantity must be"),
        (items(&item("a", 1, 0)), "items[0].unit_price must be 1 to 1000000000000"),
        (items(&item("a", 1, i64::MIN)), "items[0].unit_price must be"),
        (items(&item("a", 1_000_000, 1_000_000_000_000)), "items must not add up to more than"),
        (an_order_with(json!({ "currency": "XYZ" })), "currency must be"),
        (an_order_with(json!({ "currency": "eur" })), "currency must be"),
        (an_order_with(json!({ "customer_email": "ada" })), "customer_email must be"),
        (an_order_with(json!({ "customer_email": "Ada <ada@example.com>" })), "customer_email"),
        (an_order_with(json!({ "customer_email": "a\0@example.com" })), "customer_email"),
    ] {
        let answer = app.post("/orders").json(&order).answer().await;
        answer.assert_problem(422, message);
    }

    // All violations in one request.
    let all =
        an_order_with(json!({ "customer_email": "", "currency": "", "items": item("", 0, 0) }));
    let answer = app.post("/orders").header("idempotency-key", "k").json(&all).answer().await;
    for message in ["customer_email", "currency", ".sku", ".quantity", ".unit_price"] {
        answer.assert_problem(422, message);
    }

    assert_eq!(app.rows().await, Rows { orders: 0, keys: 0, events: 0 });
}

#[tokio::test]
async fn a_malformed_order_is_refused_and_nothing_is_written() {
    let app = App::start().await;
    for (order, message) in [
        (an_order_with(json!({ "discount": 5 })), "discount"),
        (items(&json!([{ "sku": "a", "quantity": 1, "unit_price": 1, "tax": 1 }])), "tax"),
        (items(&json!([{ "sku": "a", "quantity": 1.5, "unit_price": 1 }])), "1.5"),
        (items(&json!([{ "sku": "a", "quantity": "1", "unit_price": 1 }])), "string"),
        (
            items(&json!([{ "sku": "a", "quantity": 1, "unit_price": u64::MAX }])),
            "18446744073709551615",
        ),
        (items(&json!([{ "sku": "a", "quantity": 1 }])), "unit_price"),
        (items(&json!(null)), "null"),
        (an_order_with(json!({ "total": 1 })), "total"),
        (an_order_with(json!({ "complete": "yes" })), "boolean"),
        (json!([]), "the body"),
        (json!(null), "null"),
    ] {
        let answer = app.post("/orders").json(&order).answer().await;
        answer.assert_problem(422, message);
    }

    // A common mistake: amounts in units instead of minor units.
    let [sound, wrong] = [json!(1), json!(19.99)]
        .map(|price| json!({ "sku": "a", "quantity": 1, "unit_price": price }));
    let answer = app.post("/orders").json(&items(&json!([sound, wrong]))).answer().await;
    answer.assert_problem(422, "items[1].unit_price");
    answer.assert_problem(422, "an integer in minor units");

    let text = |body: &'static str| {
        app.post("/orders").header("content-type", "application/json").body(body).answer()
    };
    text("{\"customer_email\":").await.assert_problem(400, "the body");
    text("\u{0}\u{1}").await.assert_problem(400, "the body");
    text("").await.assert_problem(400, "the body");
    let twice = r#"{"currency":"EUR","currency":"USD","customer_email":"a@b.example","items":[]}"#;
    text(twice).await.assert_problem(422, "currency");

    let huge = an_order_with(json!({ "customer_email": "x".repeat(256 * 1024) }));
    let answer = app.post("/orders").json(&huge).answer().await;
    answer.assert_problem(413, "262144 bytes");

    assert_eq!(app.rows().await, Rows { orders: 0, keys: 0, events: 0 });
}

#[tokio::test]
async fn who_asks_must_be_known() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let order = format!("/orders/{id}");
    for (method, path) in [
        (Method::POST, "/orders"),
        (Method::GET, "/orders"),
        (Method::GET, &order),
        (Method::PATCH, &order),
        (Method::POST, &format!("{order}/complete")),
    ] {
        let nobody = app.anonymous(method.clone(), path).json(&an_order()).answer().await;
        nobody.assert_problem(401, "API key");
        let stranger = app.request_as("guess", method, path).json(&an_order()).answer().await;
        stranger.assert_problem(401, "API key");
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
}

#[tokio::test]
async fn the_correlation_id_is_the_callers_if_it_is_fit_to_be_one() {
    let app = App::start().await;
    let with =
        |id: &str| app.post("/orders").json(&an_order()).header("x-correlation-id", id).answer();
    let answer = with("checkout-7").await;
    assert_eq!((answer.status, answer.header("x-correlation-id")), (201, "checkout-7"));
    // As some gateways send them, and worse. An id for tracing must not decide whether an order is
    // accepted.
    let long = "x".repeat(129);
    let odd = ["5c1e7d90-8f0a#7", "|7f3c.1.", long.as_str(), "a b", "a\"b", ""];
    for odd in odd {
        let answer: Answer = with(odd).await;
        let id = answer.header("x-correlation-id");
        assert!(answer.status == 201 && !id.is_empty() && id != odd, "{odd}: {answer:?}");
    }
    assert_eq!(app.rows().await, Rows { orders: 7, keys: 0, events: 7 });
    let events = app.events().await;
    assert!(events.iter().all(|event| !odd.contains(&event.header("ce_correlationid"))));
}
