use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, get, story};

#[tokio::test]
async fn an_order_has_a_history_of_each_event_once_however_they_come() {
    let house = House::empty().await;
    let running = house.start().await;
    let story = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    for event in
        [&story.completed, &story.updated, &story.updated, &story.created, &story.completed]
    {
        house.send(event).await;
    }
    let order = &story.created.envelope.subject;
    let path = format!("/orders/{order}/history");
    let history = eventually("three entries", PATIENCE, async || {
        let (_, body) = get(&running, &path, "demo-acme").await;
        let history = body["history"].as_array()?.clone();
        (history.len() == 3).then_some(history)
    })
    .await;
    let told = |entry: &Value| {
        (entry["type"].clone(), entry["version"].clone(), entry["event_id"].clone())
    };
    let wanted = [&story.created, &story.updated, &story.completed].map(|event| {
        let envelope = &event.envelope;
        (json!(envelope.event_type), json!(envelope.version), json!(envelope.id.as_str()))
    });
    assert_eq!(history.iter().map(told).collect::<Vec<_>>(), wanted);
    assert_eq!(history[0]["correlation_id"], story.created.envelope.correlation_id.as_str());
    assert_eq!(get(&running, &path, "demo-globex").await.0, 404);
    let unknown = "/orders/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55/history";
    assert_eq!(get(&running, unknown, "demo-acme").await.0, 404);
    running.shutdown().await;
}
