use serde_json::json;

use crate::house::{House, completed, completed_to, get, invoiced};

#[tokio::test]
async fn a_tenant_sees_its_own_e_mails_and_nobody_elses() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    let failing = completed_to("globex", "nobody");
    for event in [&event, &invoiced(&event), &failing] {
        house.send(event).await;
    }
    house.until("three e-mails", 3, |row| row.sent || row.failed).await;

    let of_order = format!("/emails?order_id={}", event.subject());
    let (status, body) = get(&running, &of_order, "demo-acme").await;
    assert_eq!(status, 200);
    let emails = body["emails"].as_array().unwrap();
    let kinds: Vec<_> = emails.iter().map(|email| email["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["receipt", "confirmation"], "the newest first");
    for email in emails {
        assert_eq!((&email["to"], &email["status"]), (&json!("ada@example.com"), &json!("sent")));
        assert_eq!((&email["attempts"], &email["last_error"]), (&json!(1), &json!(null)));
        assert!(email["sent_at"].as_str().unwrap().ends_with('Z'), "{email}");
        assert!(email["message_id"].as_str().unwrap().ends_with("@orderflow.example>"), "{email}");
    }
    assert_eq!(emails[0]["subject"], "Receipt: invoice 17");
    assert_eq!(
        get(&running, &of_order, "demo-globex").await,
        (200, json!({"emails": [], "next_cursor": null}))
    );

    let of_order = format!("/emails?order_id={}", failing.subject());
    let (_, body) = get(&running, &of_order, "demo-globex").await;
    let email = &body["emails"][0];
    assert_eq!((&email["status"], &email["sent_at"]), (&json!("failed"), &json!(null)));
    assert!(email["last_error"].as_str().unwrap().contains("not an e-mail address"), "{email}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so() {
    let house = House::empty().await;
    let running = house.start().await;
    for (path, key, status) in [
        ("/emails?kind=love-letter", "demo-acme", 400),
        ("/emails?status=lost", "demo-acme", 400),
        ("/emails?limit=0", "demo-acme", 400),
        ("/deliveries?status=lost", "demo-acme", 400),
        ("/deliveries/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "demo-acme", 404),
        ("/webhooks/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "demo-acme", 404),
        ("/webhooks/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55/events", "demo-acme", 404),
        ("/webhooks?limit=101", "demo-acme", 400),
        ("/emails?order_id=17", "demo-acme", 400),
        ("/emails?order_id=01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55&x=1", "demo-acme", 400),
        ("/emails?order_id=01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "nobody", 401),
        ("/nothing", "demo-acme", 404),
    ] {
        let (answered, problem) = get(&running, path, key).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert_eq!(problem["status"], json!(status), "{path}");
    }
    running.shutdown().await;
}
