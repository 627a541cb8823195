use chassis::RunningService;
use events::OrderId;
use serde_json::{Value, json};

use crate::house::{CONTRACT, House};

async fn acknowledge(running: &RunningService, key: &str, body: &Value) -> u16 {
    let url = format!("http://{}/acknowledgements", running.http);
    let request = reqwest::Client::new().post(url).bearer_auth(key).json(body);
    CONTRACT.send(request).await.unwrap().status().as_u16()
}

fn of(order: OrderId, to: &str) -> Value {
    json!({ "order_id": order, "tenant_id": "acme", "customer_email": to, "currency": "EUR", "total": 1350 })
}

#[tokio::test]
async fn an_order_is_acknowledged_once_however_often_it_is_told() {
    let house = House::empty().await;
    let running = house.start().await;
    let order = OrderId::new();
    for _ in 0..3 {
        assert_eq!(acknowledge(&running, "sender", &of(order, "ada@example.com")).await, 202);
    }
    house.until("one e-mail", 1, |row| row.sent && row.attempts == 1).await;
    let file = house.file(&order.to_string(), "acknowledgement");
    assert!(file.contains("To: ada@example.com") && file.contains("EUR 13.50"), "{file}");
    running.shutdown().await;
}

#[tokio::test]
async fn nobody_but_a_service_may_tell_and_nonsense_is_refused() {
    let house = House::empty().await;
    let running = house.start().await;
    let order = OrderId::new();
    for key in ["demo-acme", "nobody"] {
        assert_eq!(acknowledge(&running, key, &of(order, "ada@example.com")).await, 401);
    }
    let sound = of(order, "ada@example.com");
    assert_eq!(acknowledge(&running, "events-only", &sound).await, 403, "it is not granted");
    for to in ["ada@example.com\nBcc: eve@example.com", "nobody", ""] {
        assert_eq!(acknowledge(&running, "sender", &of(order, to)).await, 422, "{to}");
    }
    let mut odd = of(order, "ada@example.com");
    odd["more"] = 1.into();
    assert_eq!(acknowledge(&running, "sender", &odd).await, 422);
    let mut odd = of(order, "ada@example.com");
    odd["currency"] = "euro".into();
    assert_eq!(acknowledge(&running, "sender", &odd).await, 422);
    assert!(house.rows().await.is_empty());
    running.shutdown().await;
}
