//! Subscriptions on the admin port, and the acts of operators on them.

use chassis::RunningService;
use reqwest::{Client, StatusCode};
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, completed};

async fn list(running: &RunningService) -> Value {
    let url = format!("http://{}/subscriptions", running.admin);
    let list: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(list["next_cursor"], Value::Null);
    let mut subscriptions = list["subscriptions"].as_array().unwrap().iter();
    subscriptions.find(|it| it["group"] == "billing").unwrap().clone()
}

async fn post(
    running: &RunningService,
    path: &str,
    token: &str,
    body: &Value,
) -> (StatusCode, Value) {
    let request = Client::new().post(format!("http://{}/subscriptions/{path}", running.admin));
    let answer = request.bearer_auth(token).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn an_operator_pauses_and_resumes_and_is_named() {
    let house = House::empty().await;
    let tokens = house.config().operator_tokens("ada=engine,grace=compiler");
    let running = billing::app::build(billing::Config { chassis: tokens }).start().await.unwrap();
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    let subscription = list(&running).await;
    assert_eq!(subscription["group"], "billing");
    assert_eq!(subscription["state"], "running");
    assert_eq!(subscription["topics"], json!(["order.completed"]));
    assert_eq!(subscription["paused"], Value::Null);
    assert_eq!(subscription["breakers"], json!([]));
    assert_eq!(subscription["instances"].as_array().unwrap().len(), 1);

    let why = json!({ "why": "wrong tax rates" });
    let (status, paused) = post(&running, "billing/pause", "compiler", &why).await;
    assert_eq!(status, 200, "{paused}");
    assert_eq!((&paused["paused"]["by"], &paused["paused"]["why"]), (&"grace".into(), &why["why"]));
    let state = async || {
        let subscription = list(&running).await;
        let expected = "paused by grace: wrong tax rates";
        (subscription["state"] == expected && subscription["instances"][0]["state"] == expected)
            .then_some(())
    };
    eventually("the pause to be obeyed", PATIENCE, state).await;
    house.send(&completed("acme")).await;
    let url = format!("http://{}/readyz", running.admin);
    let report: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(report["status"], "degraded");
    assert_eq!(report["subscriptions"]["billing"], "paused by grace: wrong tax rates");

    let (status, resumed) = post(&running, "billing/resume", "engine", &why).await;
    assert_eq!((status, &resumed["paused"]), (StatusCode::OK, &Value::Null));
    house.invoiced(2).await;
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn what_is_no_pause_is_refused_and_changes_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    let why = json!({ "why": "a look" });
    for (path, token, body, expected) in [
        ("billing/pause", "nobody", &why, 401),
        ("other/pause", "operator", &why, 404),
        ("other/resume", "operator", &why, 404),
        ("billing/pause", "operator", &json!({ "why": " " }), 422),
        ("billing/pause", "operator", &json!({ "why": "a\0b" }), 422),
        ("billing/pause", "operator", &json!({ "why": "x".repeat(501) }), 422),
        ("billing/pause", "operator", &json!({}), 422),
        ("billing/pause", "operator", &json!({ "why": "a", "by": "me" }), 422),
        ("billing/drop", "nobody", &why, 401),
        ("billing/drop", "operator", &why, 409),
        ("other/drop", "operator", &why, 404),
    ] {
        let (status, problem) = post(&running, path, token, body).await;
        assert_eq!(status.as_u16(), expected, "{path} {token} {body}: {problem}");
        assert_eq!(problem["status"], expected);
    }
    assert_eq!(list(&running).await["paused"], Value::Null);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn the_reason_of_a_breaker_takes_the_operators_token() {
    let house = House::empty().await;
    let tokens = house.config().operator_tokens("ada=engine");
    let running = billing::app::build(billing::Config { chassis: tokens }).start().await.unwrap();
    sqlx::query(
        "insert into breaker (subscription, event_type, fingerprint, reason, letters, last_at, opened_at)
         values ('billing', 'order.completed', 'f', 'no mailbox ada@example.com', 20, now(), now())",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let reports = async |path: &str, expected: &str| {
        let text = async || {
            let url = format!("http://{}{path}", running.admin);
            let text = reqwest::get(url).await.unwrap().text().await.unwrap();
            assert!(!text.contains("ada@example.com"), "{text}");
            text.contains(expected).then_some(())
        };
        eventually(expected, PATIENCE, text).await;
    };
    reports("/readyz", "\"breaker open: order.completed\"").await;
    reports("/subscriptions", "\"breaker open: order.completed\"").await;
    let shown = list(&running).await["breakers"][0]["reason"].clone();
    assert_eq!(shown, "(the operator's token shows it)");
    let url = format!("http://{}/subscriptions", running.admin);
    let shown = Client::new().get(url).bearer_auth("engine").send().await.unwrap();
    assert!(shown.text().await.unwrap().contains("ada@example.com"));
    assert!(running.shutdown().await);
}
