//! What is done after the response.

use std::time::{Duration, Instant};

use order::Config;
use sandbox::testing::eventually;
use serde_json::json;

use crate::app::{App, Ask, an_order, an_order_with};
use crate::neighbour::{Does, Neighbour};

const PATIENCE: Duration = Duration::from_secs(20);

async fn with_neighbours(does: Does) -> (App, [Neighbour; 3]) {
    let start = || Neighbour::start(does);
    let neighbours = [start().await, start().await, start().await];
    let urls = neighbours.each_ref().map(|neighbour| neighbour.url.parse().unwrap());
    let app = App::with(|config: &mut Config| {
        let [notification, analytics, inventory] = urls;
        config.downstream.notification_url = notification;
        config.downstream.analytics_url = analytics;
        config.downstream.inventory_url = inventory;
        config.downstream.service_key = Some("order-key".parse().unwrap());
    })
    .await;
    (app, neighbours)
}

#[tokio::test]
async fn a_new_order_is_acknowledged_tracked_and_synchronised() {
    let (app, neighbours) = with_neighbours(Does::Answer(202)).await;
    let request = app.post("/orders").json(&an_order()).header("x-correlation-id", "flow-9");
    let order = request.answer().await.json();
    let told = eventually("all are told", PATIENCE, async || {
        let told: Vec<_> = neighbours.iter().flat_map(Neighbour::told).collect();
        (told.len() == 3).then_some(told)
    })
    .await;
    let [acknowledgement, tracking, inventory] = told.try_into().unwrap();
    assert_eq!(acknowledgement.what, "POST /acknowledgements");
    let wanted = json!({ "order_id": order["id"], "tenant_id": "acme", "customer_email": "ada@example.com",
                         "currency": "EUR", "total": 2440 });
    assert_eq!(acknowledgement.body, wanted);
    assert_eq!(tracking.what, "POST /track");
    let wanted = json!({ "event": "order_placed", "order_id": order["id"], "tenant_id": "acme",
                         "at": order["created_at"] });
    assert_eq!(tracking.body, wanted);
    assert_eq!(inventory.what, "POST /inventory");
    assert_eq!(inventory.body["items"][0], json!({ "sku": "book", "quantity": 2 }));
    for told in [&acknowledgement, &tracking, &inventory] {
        assert_eq!(told.header("x-correlation-id"), "flow-9");
    }
    assert_eq!(acknowledgement.header("authorization"), "Bearer order-key");
    assert_eq!(inventory.header("authorization"), "", "our key is not for strangers");
}

#[tokio::test]
async fn an_order_that_is_refused_or_was_placed_before_tells_nobody() {
    let (app, neighbours) = with_neighbours(Does::Answer(202)).await;
    let refused = app.post("/orders").json(&an_order_with(json!({ "items": [] }))).answer().await;
    assert_eq!(refused.status, 422);
    let place = || app.post("/orders").json(&an_order()).header("idempotency-key", "once").answer();
    let first = place().await;
    assert_eq!((first.status, place().await.lasting()), (201, first.lasting()));
    let last = app.place(&an_order_with(json!({ "currency": "USD" }))).await;
    // What is told in the end is the last order's; what the others had to tell came before.
    for neighbour in &neighbours {
        let told = eventually("the last is told", PATIENCE, async || {
            let told = neighbour.told();
            told.iter().any(|told| told.body["order_id"] == last.as_str()).then_some(told)
        })
        .await;
        assert_eq!(told.len(), 2, "the first order and the last: {told:?}");
    }
}

#[tokio::test]
async fn neighbours_that_hang_cost_orders_nothing_and_hold_nothing_else_up() {
    let (app, neighbours) = with_neighbours(Does::Hang).await;
    let list = "/orders?customer_email=ada@example.com";
    let mut longest = Duration::ZERO;
    for count in 1..=40 {
        let began = Instant::now();
        app.place(&an_order()).await;
        longest = longest.max(began.elapsed());
        // The local task runs, though the others have not ended.
        eventually("the list is fresh", PATIENCE, async || {
            let orders = app.get(list).await.json()["orders"].as_array().unwrap().len();
            (orders == count.min(20)).then_some(())
        })
        .await;
    }
    assert!(longest < Duration::from_secs(2), "an order took {longest:?}");
    assert!(neighbours.iter().all(|neighbour| neighbour.told().len() <= 40));
}

#[tokio::test]
async fn a_customers_list_is_cached_until_something_of_it_changes() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let list = "/orders?customer_email=ada@example.com";
    let total = async || app.get(list).await.json()["orders"][0]["total"].clone();
    // Behind the service's back: what is cached does not know. What the new order deferred may yet forget it, once.
    let change = "update orders set total = total + 1";
    eventually("the list is cached", PATIENCE, async || {
        let before = total().await;
        sqlx::query(change).execute(&app.pool).await.unwrap();
        (total().await == before).then_some(())
    })
    .await;
    let change = json!({ "customer_email": "eve@example.com" });
    let changed = app.patch(&id).header("if-match", "\"1\"").json(&change).answer().await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    eventually("who lost it", PATIENCE, async || {
        let orders = app.get(list).await.json()["orders"].clone();
        (orders == json!([])).then_some(())
    })
    .await;
    let other = app.get("/orders?customer_email=eve@example.com").await.json();
    assert_eq!(other["orders"][0]["id"], id.as_str());
    let of_another = app
        .request_as("demo-globex", reqwest::Method::GET, "/orders?customer_email=eve@example.com")
        .answer()
        .await;
    assert_eq!(of_another.json()["orders"], json!([]));
}

#[tokio::test]
async fn every_request_leaves_a_row_in_the_activity_log() {
    type Row = (Option<String>, String, Option<String>, i16, String);
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    app.get(&format!("/orders/{id}")).await;
    app.get("/nothing").await;
    app.anonymous(reqwest::Method::GET, "/orders").answer().await;
    let rows: Vec<Row> = eventually("four rows", PATIENCE, async || {
        let rows: Vec<Row> = sqlx::query_as(
            "select tenant_id, method, route, status, path from activity where ms > 0 order by at",
        )
        .fetch_all(&app.pool)
        .await
        .unwrap();
        (rows.len() == 4).then_some(rows)
    })
    .await;
    let row = |tenant: Option<&str>, method: &str, route: Option<&str>, status, path: &str| {
        let text = |text: &str| text.to_owned();
        (tenant.map(text), text(method), route.map(text), status, text(path))
    };
    let path = format!("/orders/{id}");
    assert_eq!(rows[0], row(Some("acme"), "POST", Some("/orders"), 201, "/orders"));
    assert_eq!(rows[1], row(Some("acme"), "GET", Some("/orders/{id}"), 200, &path));
    assert_eq!(rows[2], row(None, "GET", None, 404, "/nothing"));
    assert_eq!(rows[3], row(None, "GET", Some("/orders"), 401, "/orders"));
}
