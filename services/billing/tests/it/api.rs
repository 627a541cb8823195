use sandbox::testing::eventually;
use serde_json::json;

use crate::house::{House, PATIENCE, completed, get};

#[tokio::test]
async fn a_tenant_sees_its_own_invoices_and_nobody_elses() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(1).await;

    let of_order = format!("/invoices?order_id={}", event.subject());
    let (status, body) = get(&running, &of_order, "demo-acme").await;
    assert_eq!(status, 200);
    let invoice = &body["invoices"][0];
    assert_eq!(invoice["order_id"], event.subject());
    assert_eq!((&invoice["number"], &invoice["total"]), (&json!(1), &json!(1350)));
    assert_eq!(invoice["currency"], "EUR");
    assert!(invoice["issued_at"].as_str().unwrap().ends_with('Z'));

    let one = format!("/invoices/{}", invoice["id"].as_str().unwrap());
    assert_eq!(get(&running, &one, "demo-acme").await, (200, invoice.clone()));
    assert_eq!(get(&running, &one, "demo-globex").await.0, 404);
    assert_eq!(get(&running, &of_order, "demo-globex").await, (200, json!({"invoices": []})));
    running.shutdown().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so() {
    let house = House::empty().await;
    let running = house.start().await;
    for (path, key, status) in [
        ("/invoices", "demo-acme", 400),
        ("/invoices?order_id=17", "demo-acme", 400),
        ("/invoices?order_id=01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55&x=1", "demo-acme", 400),
        ("/invoices/17", "demo-acme", 404),
        ("/invoices/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "demo-acme", 404),
        ("/invoices/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "nobody", 401),
        ("/nothing", "demo-acme", 404),
    ] {
        let (answered, problem) = get(&running, path, key).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert_eq!(problem["status"], json!(status), "{path}");
        for part in ["title", "detail", "correlation_id"] {
            assert!(
                problem[part].as_str().is_some_and(|text| !text.is_empty()),
                "{path}: {problem}"
            );
        }
    }
    running.shutdown().await;
}

#[tokio::test]
async fn readiness_says_how_it_fares() {
    let house = House::empty().await;
    let running = house.start().await;
    let ready = async || {
        let response = reqwest::get(format!("http://{}/readyz", running.admin)).await.unwrap();
        let (status, body) =
            (response.status(), response.json::<serde_json::Value>().await.unwrap());
        (status == 200 && body["kafka"] == "up").then_some(body)
    };
    let body = eventually("readiness", PATIENCE, ready).await;
    assert_eq!(
        body,
        json!({"status": "ready", "database": "up", "kafka": "up", "subscriptions": {"billing": "running"}})
    );
    running.shutdown().await;
}
