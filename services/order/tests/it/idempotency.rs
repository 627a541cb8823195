use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, App, Ask, Rows, an_order, an_order_with};

impl App {
    async fn place_as(&self, tenant_key: &str, key: &str, order: &Value) -> Answer {
        let request = self.request_as(tenant_key, Method::POST, "/orders").json(order);
        request.header("idempotency-key", key).answer().await
    }

    async fn complete_with(&self, id: &str, key: &str) -> Answer {
        let request = self.post(&format!("/orders/{id}/complete"));
        request.header("idempotency-key", key).answer().await
    }

    async fn erase(&self, address: &str) {
        let body = json!({ "customer_email": address });
        assert_eq!(self.operate("/erasures", &body).await, 200);
    }

    /// Waits until a statement of the service is blocked by a lock that the test holds.
    pub(crate) async fn waits_for_a_lock(&self) {
        sandbox::testing::statements_wait_for_a_lock(&self.pool, 1, Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn the_same_request_has_one_effect_and_one_answer() {
    let app = App::start().await;
    for order in [an_order(), an_order_with(json!({ "complete": true }))] {
        let before = app.rows().await;
        let key = format!("key-{}", before.keys);
        let first = app.place_as("demo-acme", &key, &order).await;
        assert_eq!(first.status, 201, "{}", first.text);
        let rows = app.rows().await;
        assert_eq!((rows.orders, rows.keys), (before.orders + 1, before.keys + 1));
        for _ in 0..2 {
            let again = app.place_as("demo-acme", &key, &order).await;
            assert_ne!(again.header("x-correlation-id"), first.header("x-correlation-id"));
            assert_eq!(again.lasting(), first.clone().lasting());
        }
        assert_eq!(app.rows().await, rows);
    }
}

#[tokio::test]
async fn the_answer_stays_as_it_was_given() {
    let app = App::start().await;
    let first = app.place_as("demo-acme", "k", &an_order()).await;
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(app.complete_with(&id, "k2").await.status, 200);
    assert_eq!(app.place_as("demo-acme", "k", &an_order()).await.lasting(), first.lasting());
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let app = App::start().await;
    let first = app.place_as("demo-acme", "k", &an_order()).await;
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let rows = app.rows().await;
    let other = an_order_with(json!({ "currency": "USD" }));
    app.place_as("demo-acme", "k", &other).await.assert_problem(422, "Idempotency-Key");
    // A request to another path is another request.
    app.complete_with(&id, "k").await.assert_problem(422, "Idempotency-Key");
    assert_eq!(app.rows().await, rows);
    assert_eq!(app.get(&format!("/orders/{id}")).await.json()["status"], json!("open"));

    // Keys of different tenants are independent.
    let globex = app.place_as("demo-globex", "k", &other).await;
    assert_eq!(globex.status, 201, "{}", globex.text);
    for odd in ["", &"x".repeat(256)] {
        let answer = app.place_as("demo-acme", odd, &an_order()).await;
        answer.assert_problem(400, "Idempotency-Key must be");
    }
    let longest = app.place_as("demo-acme", &"x".repeat(255), &an_order()).await;
    assert_eq!(longest.status, 201, "{}", longest.text);
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key() {
    let app = App::start().await;
    let bad = an_order_with(json!({ "currency": "XYZ" }));
    app.place_as("demo-acme", "k", &bad).await.assert_problem(422, "currency");
    let unknown = uuid::Uuid::now_v7().to_string();
    app.complete_with(&unknown, "k").await.assert_problem(404, "no order");
    let good = app.place_as("demo-acme", "k", &an_order()).await;
    assert_eq!(good.status, 201, "{}", good.text);
}

#[tokio::test]
async fn completing_keeps_its_answer_too() {
    let app = App::start().await;
    let (a, b) = (app.place(&an_order()).await, app.place(&an_order()).await);
    let first = app.complete_with(&a, "k").await;
    assert_eq!(first.status, 200, "{}", first.text);
    let rows = app.rows().await;
    assert_eq!(rows, Rows { orders: 2, keys: 1, events: 3 });
    assert_eq!(app.complete_with(&a, "k").await.lasting(), first.clone().lasting());
    app.complete_with(&b, "k").await.assert_problem(422, "Idempotency-Key");
    assert_eq!(app.rows().await, rows);

    // A key is used up even by a request that changed nothing.
    assert_eq!(app.complete_with(&a, "k2").await.lasting(), first.lasting());
    app.complete_with(&b, "k2").await.assert_problem(422, "Idempotency-Key");
    assert_eq!(app.rows().await, Rows { orders: 2, keys: 2, events: 3 });
}

#[tokio::test]
async fn twins_at_once_are_one() {
    let app = App::start().await;
    let order = an_order();
    let answers = join_all((0..10).map(|_| app.place_as("demo-acme", "k", &order))).await;
    let first = answers[0].clone().lasting();
    assert_eq!(first.status, 201, "{}", first.text);
    for answer in answers {
        assert_eq!(answer.lasting(), first);
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 1, events: 1 });

    let id = first.json()["id"].as_str().unwrap().to_owned();
    let answers = join_all((0..10).map(|_| app.complete_with(&id, "k2"))).await;
    let first = answers[0].clone().lasting();
    assert_eq!(first.status, 200, "{}", first.text);
    for answer in answers {
        assert_eq!(answer.lasting(), first);
    }
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 2, events: 2 });
}

#[tokio::test]
async fn a_twin_waits_for_the_one_in_flight_but_not_for_ever() {
    let app = App::start().await;
    let mut twin = app.pool.begin().await.unwrap();
    sqlx::query(
        "insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
         values ('acme', 'k', '', 201, '{}', '{}')",
    )
    .execute(&mut *twin)
    .await
    .unwrap();
    let began = Instant::now();
    let answer = app.place_as("demo-acme", "k", &an_order()).await;
    answer.assert_problem(409, "Idempotency-Key");
    assert!(began.elapsed() >= Duration::from_secs(4), "it waited {:?}", began.elapsed());
    assert_eq!(app.rows().await, Rows { orders: 0, keys: 0, events: 0 });

    // A request that is rolled back frees its key.
    let order = an_order();
    let waiting = app.place_as("demo-acme", "k", &order);
    let ended = async {
        app.waits_for_a_lock().await;
        twin.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, ended);
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 1, events: 1 });
}

#[tokio::test]
async fn an_answer_that_is_given_again_does_not_tell_of_an_erased_customer() {
    let app = App::start().await;
    let order = an_order_with(json!({ "customer_email": "Ada+1@example.com" }));
    let other = an_order_with(json!({ "customer_email": "bada+1@example.com" }));
    let first = app.place_as("demo-acme", "k", &order).await.json();
    let untouched = app.place_as("demo-acme", "l", &other).await.json();
    app.erase("ada+1@example.com").await;

    let again = app.place_as("demo-acme", "k", &order).await.json();
    assert_eq!((&again["id"], &again["customer_email"]), (&first["id"], &json!("(erased)")));
    assert_eq!(app.place_as("demo-acme", "l", &other).await.json(), untouched);
    assert_eq!(app.rows().await.orders, 2);
}
