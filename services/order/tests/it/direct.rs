//! `ORDER_DIRECT`: direct calls before the response.

use std::time::Duration;

use order::Config;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::app::{App, Ask, an_order, an_order_with};
use crate::neighbour::{Behaviour, Neighbour};

const PATIENCE: Duration = Duration::from_secs(20);

async fn calling(names: &str, billing: &Neighbour, analytics: &Neighbour) -> App {
    let urls = [billing, analytics].map(|neighbour| neighbour.url.parse().unwrap());
    let direct = names.parse().unwrap();
    App::with(|config: &mut Config| {
        let [billing, analytics] = urls;
        config.downstream.billing_url = billing;
        config.downstream.analytics_url = analytics;
        config.downstream.service_key = Some("order-key".parse().unwrap());
        config.downstream.direct = direct;
    })
    .await
}

fn events(neighbour: &Neighbour) -> Vec<crate::neighbour::RecordedRequest> {
    neighbour.requests().into_iter().filter(|request| request.line == "POST /events").collect()
}

#[tokio::test]
async fn who_is_named_has_the_event_before_the_answer_comes() {
    let (billing, analytics) = (
        Neighbour::start(Behaviour::Answer(200)).await,
        Neighbour::start(Behaviour::Answer(200)).await,
    );
    let app = calling("billing", &billing, &analytics).await;
    let id = app.place(&an_order()).await;
    assert!(events(&billing).is_empty(), "it is not complete");
    let answer = app.post(&format!("/orders/{id}/complete")).answer().await;
    assert_eq!(answer.status, 200);
    let requests = events(&billing);
    assert_eq!(requests.len(), 1);
    let waiting = app.events().await;
    let completed = waiting.iter().find(|event| event.topic == "order.completed").unwrap();
    assert_eq!(
        requests[0].header("ce-id"),
        completed.header("ce_id"),
        "the same event by both ways"
    );
    assert_eq!(requests[0].header("authorization"), "Bearer order-key");
    assert_eq!(requests[0].body, serde_json::from_slice::<Value>(&completed.payload).unwrap());
    assert!(events(&analytics).is_empty(), "who is not named hears of it by Kafka");

    app.post(&format!("/orders/{id}/complete")).answer().await;
    assert_eq!(events(&billing).len(), 1, "nothing was completed the second time");
    let at_once = app.post("/orders").json(&an_order_with(json!({ "complete": true })));
    assert_eq!(at_once.answer().await.status, 201);
    assert_eq!(events(&billing).len(), 2);
}

#[tokio::test]
async fn a_call_that_fails_or_is_slow_is_the_callers_problem_though_the_order_is_complete() {
    let sound = Neighbour::start(Behaviour::Answer(200)).await;
    for (behaviour, status) in [(Behaviour::Answer(500), 502), (Behaviour::Hang, 504)] {
        let broken = Neighbour::start(behaviour).await;
        let app = calling("analytics,billing", &sound, &broken).await;
        let id = app.place(&an_order()).await;
        let answer = app.post(&format!("/orders/{id}/complete")).answer().await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.text.contains("analytics"), "{}", answer.text);
        assert_eq!(app.get(&format!("/orders/{id}")).await.json()["status"], "completed");
        assert!(app.events().await.iter().any(|event| event.topic == "order.completed"));
    }
    assert!(events(&sound).is_empty(), "who comes after the broken one is not reached");
}

#[tokio::test]
async fn what_follows_an_order_is_done_though_a_direct_call_failed() {
    let (broken, inventory) = (
        Neighbour::start(Behaviour::Answer(500)).await,
        Neighbour::start(Behaviour::Answer(200)).await,
    );
    let urls = [&broken, &inventory].map(|neighbour| neighbour.url.parse().unwrap());
    let app = App::with(|config: &mut Config| {
        [config.downstream.billing_url, config.downstream.inventory_url] = urls;
        config.downstream.service_key = Some("order-key".parse().unwrap());
        config.downstream.direct = "billing".parse().unwrap();
    })
    .await;
    let list = "/orders?customer_email=ada@example.com";
    assert_eq!(app.get(list).await.json()["orders"], json!([]), "it is cached from now on");
    let order = an_order_with(json!({ "complete": true }));
    assert_eq!(app.post("/orders").json(&order).answer().await.status, 502);
    eventually("the inventory is told", PATIENCE, async || {
        (!inventory.requests().is_empty()).then_some(())
    })
    .await;
    eventually("the list has it", Duration::from_secs(2), async || {
        let listed = app.get(list).await.json();
        (listed["orders"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_is_told_like_a_completion() {
    let (billing, broken) = (
        Neighbour::start(Behaviour::Answer(200)).await,
        Neighbour::start(Behaviour::Answer(500)).await,
    );
    let app = calling("billing", &billing, &broken).await;
    let cancel = async |app: &App, id| app.post(&format!("/orders/{id}/cancel")).answer().await;
    // Both open and completed orders are reported; the consumers decide what follows.
    let open = app.place(&an_order()).await;
    let completed = app.place(&an_order_with(json!({ "complete": true }))).await;
    for id in [&open, &completed] {
        assert_eq!(cancel(&app, id).await.status, 200);
        let request = events(&billing).pop().unwrap();
        assert_eq!(request.header("ce-type"), "order.cancelled");
        let waiting = app.events().await;
        let cancelled = waiting.iter().rfind(|event| event.topic == "order.cancelled").unwrap();
        assert_eq!(
            request.header("ce-id"),
            cancelled.header("ce_id"),
            "the same event by both ways"
        );
        assert_eq!(request.body, serde_json::from_slice::<Value>(&cancelled.payload).unwrap());
    }
    let count = events(&billing).len();
    assert_eq!(cancel(&app, &open).await.status, 200);
    assert_eq!(events(&billing).len(), count, "nothing was cancelled the second time");

    let app = calling("analytics", &billing, &broken).await;
    let id = app.place(&an_order()).await;
    let answer = cancel(&app, &id).await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    assert!(answer.text.contains("the order is cancelled, but analytics"), "{}", answer.text);
    assert_eq!(app.get(&format!("/orders/{id}")).await.json()["status"], "cancelled");
}

#[tokio::test]
async fn nobody_there_is_a_failure_too() {
    let gone =
        Neighbour { url: "http://127.0.0.1:1".into(), ..Neighbour::start(Behaviour::Hang).await };
    let app = calling("billing", &gone, &gone).await;
    let id = app.place(&an_order()).await;
    assert_eq!(app.post(&format!("/orders/{id}/complete")).answer().await.status, 502);
}
