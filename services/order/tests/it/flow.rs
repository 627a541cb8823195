//! Steps of an order's flow within the service.

use std::time::Duration;

use sandbox::testing::{TestSpace, eventually};
use serde_json::{Value, json};

use crate::app::{App, Ask, an_order_with, traced};

const PATIENCE: Duration = Duration::from_secs(30);

fn all<'a>(flow: &'a Value, list: &str, kind: &str) -> Vec<&'a Value> {
    flow[list].as_array().unwrap().iter().filter(|it| it["kind"] == kind).collect()
}

async fn place(app: &App, flow: &str) -> String {
    let order = an_order_with(json!({ "complete": true }));
    let placed = app.post("/orders").header("x-correlation-id", flow).json(&order).answer().await;
    assert_eq!(placed.status, 201, "{}", placed.text);
    placed.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_told_from_its_request_to_its_place_in_kafka() {
    traced();
    let space = TestSpace::new().await;
    let app = App::with_kafka(&space, space.kafka_brokers()).await;
    let order = place(&app, "flow-1").await;
    let flow = eventually("both publications and a task", PATIENCE, async || {
        let flow = app.admin(&format!("/flows/{order}")).await;
        let is_all = all(&flow, "steps", "publish").len() == 2
            && !all(&flow, "steps", "deferred").is_empty();
        is_all.then_some(flow)
    })
    .await;
    assert_eq!(flow["correlation_ids"], json!(["flow-1"]));
    assert_eq!((&flow["service"], &flow["open"]), (&"order".into(), &json!([])));

    let request = all(&flow, "steps", "request")[0];
    assert_eq!((&request["name"], &request["status"]), (&"POST /orders".into(), &201.into()));
    let deferred = all(&flow, "steps", "deferred");
    let tasks: Vec<_> = deferred.iter().map(|it| it["task"].as_str().unwrap()).collect();
    assert!(tasks.contains(&"activity log"), "{tasks:?}");
    assert!(!tasks.contains(&"request metrics"), "too short for a step: {tasks:?}");
    for (kind, member) in [("outbox wait", "duration_us"), ("publish", "offset")] {
        let steps = all(&flow, "steps", kind);
        let types: Vec<_> = steps.iter().map(|it| it["event_type"].as_str().unwrap()).collect();
        assert!(
            types.contains(&"order.created") && types.contains(&"order.completed"),
            "{types:?}"
        );
        for step in steps {
            assert_eq!((&step["subject"], &step["source"]), (&json!(order), &"/order".into()));
            assert!(step[member].is_i64(), "{member}: {step}");
            assert_eq!(step["trace_id"], request["trace_id"]);
        }
    }
    assert!(all(&flow, "steps", "publish").iter().all(|it| it["partition"].is_i64()));
    // Requests come first, ordered by their begin.
    assert_eq!(flow["steps"][0]["kind"], "request");
    let event = all(&flow, "steps", "publish")[0]["event_id"].as_str().unwrap();
    let by_event = app.admin(&format!("/flows/{event}")).await;
    assert_eq!(by_event["correlation_ids"], json!(["flow-1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_kafka_is_open() {
    traced();
    let app = App::start().await;
    let order = place(&app, "flow-2").await;
    place(&app, "flow-3").await;
    for id in ["flow-2", &order] {
        let flow = app.admin(&format!("/flows/{id}")).await;
        let waiting = all(&flow, "open", "outbox");
        let types: Vec<_> = waiting.iter().map(|it| it["event_type"].as_str().unwrap()).collect();
        assert_eq!(types, ["order.created", "order.completed"], "{flow:#}");
        assert!(waiting.iter().all(|it| it["since"].is_string() && it["event_id"].is_string()));
        assert_eq!(flow["correlation_ids"], json!(["flow-2"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_request_is_no_step_of_a_flow() {
    traced();
    let app = App::start().await;
    for key in ["guess", "demo-acme"] {
        let request = app.request_as(key, reqwest::Method::GET, "/orders");
        request.header("x-correlation-id", format!("flow-of-{key}")).answer().await;
    }
    let flows = async || {
        let flows = "select distinct correlation_id from flow_step order by 1";
        let flows = sqlx::query_scalar::<_, String>(flows).fetch_all(&app.pool).await.unwrap();
        (!flows.is_empty()).then_some(flows)
    };
    assert_eq!(eventually("a flow", PATIENCE, flows).await, ["flow-of-demo-acme"]);
}
