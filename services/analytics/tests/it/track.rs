use chassis::RunningService;
use serde_json::{Value, json};

use crate::house::{CONTRACT, House, get};

const ORDER: &str = "01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55";

fn placed(order: &str) -> Value {
    json!({ "event": "order_placed", "tenant_id": "acme", "order_id": order, "at": "2026-11-20T12:00:00Z" })
}

async fn track(running: &RunningService, key: &str, body: &Value) -> u16 {
    let url = format!("http://{}/track", running.http);
    let request = reqwest::Client::new().post(url).bearer_auth(key).json(body);
    CONTRACT.send(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn what_is_told_twice_counts_once() {
    let house = House::empty().await;
    let running = house.start().await;
    for _ in 0..2 {
        assert_eq!(track(&running, "sender", &placed(ORDER)).await, 202);
    }
    let funnel = json!({ "placed": 1, "created": 0, "open": 0, "completed": 0, "cancelled": 0 });
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    assert_eq!(get(&running, "/funnel", "demo-globex").await.1["placed"], 0);
    running.shutdown().await;
}

#[tokio::test]
async fn only_services_tell_and_only_what_is_known() {
    let house = House::empty().await;
    let running = house.start().await;
    let with = |member: &str, value: Value| {
        let mut body = placed(ORDER);
        body[member] = value;
        body
    };
    for (key, body, status) in [
        ("demo-acme", placed(ORDER), 401),
        ("nobody", placed(ORDER), 401),
        ("events-only", placed(ORDER), 403),
        ("sender", with("event", json!("order_lost")), 422),
        ("sender", with("order_id", json!("17")), 422),
        ("sender", with("more", json!(1)), 422),
        ("sender", with("more", json!("x".repeat(5000))), 413),
        ("sender", with("at", json!("yesterday")), 422),
    ] {
        assert_eq!(track(&running, key, &body).await, status, "{key} {body}");
    }
    assert_eq!(get(&running, "/funnel", "demo-acme").await.1["placed"], 0);
    running.shutdown().await;
}
