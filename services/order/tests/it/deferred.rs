//! Work that is deferred until after the response.

use std::time::{Duration, Instant};

use order::Config;
use reqwest::Method;
use sandbox::testing::{eventually, statements_wait_for_a_lock};
use serde_json::json;

use crate::app::{App, Ask, Rows, an_order, an_order_with};
use crate::neighbour::{Behaviour, Neighbour};

const PATIENCE: Duration = Duration::from_secs(20);
/// More than the tasks of one kind that run at once.
const ORDERS: usize = 100;
/// Less than the time limit of a task, after which others of its kind run.
const WHILE_TASKS_HANG: Duration = Duration::from_secs(4);
/// More than the rest of a shutdown takes without Kafka, and less than the time limit of a task.
const LATE: Duration = Duration::from_secs(3);

/// Starts the service with notification, analytics and the inventory as its neighbours.
async fn with_neighbours(behaviours: [Behaviour; 3]) -> (App, [Neighbour; 3]) {
    let [notification, analytics, inventory] = behaviours.map(Neighbour::start);
    let neighbours = [notification.await, analytics.await, inventory.await];
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
    let (app, neighbours) = with_neighbours([Behaviour::Answer(202); 3]).await;
    let request = app.post("/orders").json(&an_order()).header("x-correlation-id", "flow-9");
    let order = request.answer().await.json();
    let requests = eventually("all are told", PATIENCE, async || {
        let requests: Vec<_> = neighbours.iter().flat_map(Neighbour::requests).collect();
        (requests.len() == 3).then_some(requests)
    })
    .await;
    let [acknowledgement, tracking, inventory] = requests.try_into().unwrap();
    assert_eq!(acknowledgement.line, "POST /acknowledgements");
    let wanted = json!({ "order_id": order["id"], "tenant_id": "acme", "customer_email": "ada@example.com",
                         "currency": "EUR", "total": 2440 });
    assert_eq!(acknowledgement.body, wanted);
    assert_eq!(tracking.line, "POST /track");
    let wanted = json!({ "event": "order_placed", "order_id": order["id"], "tenant_id": "acme",
                         "at": order["created_at"] });
    assert_eq!(tracking.body, wanted);
    assert_eq!(inventory.line, "POST /inventory");
    assert_eq!(inventory.body["items"][0], json!({ "sku": "book", "quantity": 2 }));
    for request in [&acknowledgement, &tracking, &inventory] {
        assert_eq!(request.header("x-correlation-id"), "flow-9");
    }
    assert_eq!(acknowledgement.header("authorization"), "Bearer order-key");
    assert_eq!(inventory.header("authorization"), "", "our key is not for strangers");
}

#[tokio::test]
async fn an_order_that_is_refused_or_was_placed_before_tells_nobody() {
    let (app, neighbours) = with_neighbours([Behaviour::Answer(202); 3]).await;
    let refused = app.post("/orders").json(&an_order_with(json!({ "items": [] }))).answer().await;
    assert_eq!(refused.status, 422);
    let place = || app.post("/orders").json(&an_order()).header("idempotency-key", "once").answer();
    let first = place().await;
    assert_eq!((first.status, place().await.lasting()), (201, first.lasting()));
    let last = app.place(&an_order_with(json!({ "currency": "USD" }))).await;
    // The last order's tasks run after those of all earlier ones.
    for neighbour in &neighbours {
        let requests = eventually("the last is told", PATIENCE, async || {
            let requests = neighbour.requests();
            requests
                .iter()
                .any(|request| request.body["order_id"] == last.as_str())
                .then_some(requests)
        })
        .await;
        assert_eq!(requests.len(), 2, "the first order and the last: {requests:?}");
    }
}

#[tokio::test]
async fn neighbours_that_hang_cost_orders_nothing_and_hold_nothing_else_up() {
    let behaviours = [Behaviour::Hang, Behaviour::Hang, Behaviour::Answer(202)];
    let (app, [_, _, inventory]) = with_neighbours(behaviours).await;
    let mut longest = Duration::ZERO;
    for _ in 0..ORDERS {
        let began = Instant::now();
        app.place(&an_order()).await;
        longest = longest.max(began.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "an order took {longest:?}");
    eventually("the inventory is told of all orders", WHILE_TASKS_HANG, async || {
        (inventory.requests().len() == ORDERS).then_some(())
    })
    .await;
    eventually("the activity log has all requests", WHILE_TASKS_HANG, async || {
        let rows: i64 =
            sqlx::query_scalar("select count(*) from activity").fetch_one(&app.pool).await.unwrap();
        (usize::try_from(rows).unwrap() == ORDERS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_asked_and_runs_what_was_deferred() {
    let (mut app, neighbours) = with_neighbours([Behaviour::AnswerAfter(LATE, 202); 3]).await;
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("lock table orders in share mode").execute(&mut *other).await.unwrap();
    let placing = app.post("/orders").json(&an_order()).answer();
    let ending = async {
        statements_wait_for_a_lock(&app.pool, 1, PATIENCE).await;
        let (began, shutdown) = (Instant::now(), app.begin_shutdown());
        let refused = async || app.anonymous(Method::GET, "/orders").send().await.err();
        eventually("a refused connection", PATIENCE, refused).await;
        other.rollback().await.unwrap();
        // Without Kafka, the relay may not end in time.
        let _ = shutdown.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    };
    let (answer, ()) = tokio::join!(placing, ending);
    assert_eq!(answer.status, 201, "{}", answer.text);
    let requests: Vec<_> = neighbours.iter().flat_map(Neighbour::requests).collect();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, ["POST /acknowledgements", "POST /track", "POST /inventory"]);
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
}

#[tokio::test]
async fn who_has_written_reads_it() {
    let app = App::start().await;
    let list = "/orders?customer_email=ada@example.com";
    let newest = async |app: &App| app.get(list).await.json()["orders"][0].clone();
    // Uses other connections than the writer, whose connection is free only after the deferred
    // work.
    let reader = app.another_client();
    for _ in 0..40 {
        newest(&reader).await;
        let id = app.place(&an_order()).await;
        assert_eq!(newest(&reader).await["id"], id.as_str());
        app.post(&format!("/orders/{id}/complete")).answer().await;
        assert_eq!(newest(&reader).await["status"], "completed");
        let change = json!({ "customer_email": "eve@example.com" });
        let id = app.place(&an_order()).await;
        assert_eq!(newest(&reader).await["id"], id.as_str());
        app.patch(&id).header("if-match", "*").json(&change).answer().await;
        assert_ne!(newest(&reader).await["id"], id.as_str());
    }
}

#[tokio::test]
async fn a_customers_list_is_cached_until_something_of_it_changes() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let list = "/orders?customer_email=ada@example.com";
    let total = async || app.get(list).await.json()["orders"][0]["total"].clone();
    // Changes the row without the service, so the cache is not invalidated.
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
async fn a_tenants_requests_leave_a_row_each_in_the_activity_log() {
    type Row = (Option<String>, String, Option<String>, i16, String);
    let app = App::start().await;
    // Requests of unknown callers, of which there may be any number, are not recorded.
    app.anonymous(Method::GET, "/orders").answer().await;
    app.request_as("guess", Method::GET, "/orders").answer().await;
    app.anonymous(Method::GET, &format!("/{}", "x".repeat(10_000))).answer().await;

    let id = app.place(&an_order()).await;
    app.get(&format!("/orders/{id}")).await;
    app.get("/nothing").await;
    app.get(&format!("/orders/{}", "x".repeat(10_000))).await;
    let rows: Vec<Row> = eventually("four rows", PATIENCE, async || {
        let rows: Vec<Row> = sqlx::query_as(
            "select tenant_id, method, route, status, path from activity where ms > 0 order by at",
        )
        .fetch_all(&app.pool)
        .await
        .unwrap();
        (rows.len() >= 4).then_some(rows)
    })
    .await;
    let row = |method: &str, route: Option<&str>, status, path: &str| {
        let text = |text: &str| text.to_owned();
        (Some(text("acme")), text(method), route.map(text), status, text(path))
    };
    let path = format!("/orders/{id}");
    let bounded = format!("/orders/{}", "x".repeat(192));
    assert_eq!(
        rows,
        [
            row("POST", Some("/orders"), 201, "/orders"),
            row("GET", Some("/orders/{id}"), 200, &path),
            // Without a resource, the path may be arbitrary text.
            row("GET", None, 404, ""),
            row("GET", Some("/orders/{id}"), 404, &bounded),
        ]
    );
}

#[tokio::test]
async fn the_activity_log_is_written_by_one_statement_at_a_time() {
    let app = App::start().await;
    app.get("/orders").await;
    let count = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from activity").fetch_one(&app.pool).await
    };
    eventually("a row", PATIENCE, async || (count().await.unwrap() == 1).then_some(())).await;
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("lock table activity in share mode").execute(&mut *other).await.unwrap();
    let writers = async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock' and query like 'insert into activity%'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.pool).await.unwrap()
    };
    // Three batches, if each were written once it is collected.
    for _ in 0..3 {
        app.get("/orders").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(writers().await, 1);
    other.commit().await.unwrap();
    eventually("all rows", PATIENCE, async || (count().await.unwrap() == 4).then_some(())).await;
}
