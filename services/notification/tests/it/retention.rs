//! Deletion of expired customers' data.

use std::time::Duration;

use playground::{Behaviour, ThirdParty};
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{
    House, PATIENCE, completed, completed_to, deliveries, get, register, until_delivery,
};

#[tokio::test]
async fn what_is_too_old_is_deleted_and_what_is_still_to_be_sent_is_not() {
    let third_party = ThirdParty::start().await.unwrap();
    let mut house = House::empty().await;
    house.webhooks.allow = third_party.address().to_string().parse().unwrap();
    house.webhooks.retries = vec![Duration::from_hours(1)];
    let running = house.start().await;
    register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    // One is sent and delivered, one fails for good, one waits for its retry.
    let (old, failed, waits) =
        (completed("acme"), completed_to("acme", "nobody"), completed("acme"));
    house.send(&old).await;
    until_delivery(&house, &running, old.subject(), "delivered").await;
    third_party.behave(Behaviour { failure_rate: 1.0, ..Behaviour::default() });
    house.send(&failed).await;
    until_delivery(&house, &running, failed.subject(), "failed").await;
    house.send(&waits).await;
    let tried = async || {
        let waiting = deliveries(&running, "status=waiting").await;
        waiting.iter().any(|it| it["attempts"] != json!([])).then_some(())
    };
    eventually("a first attempt", PATIENCE, tried).await;
    house.until("three e-mails", 3, |row| row.sent || row.failed).await;
    running.shutdown().await;

    let running = house.start().await;
    assert_eq!(deliveries(&running, "limit=100").await.len(), 3, "30 days are kept");
    running.shutdown().await;

    house.keep_a_day();
    house.two_days_later(&["emails", "deliveries", "job"]).await;
    let younger = completed("acme");
    let running = house.start().await;
    house.send(&younger).await;
    let pruned = async || {
        let left = deliveries(&running, "limit=100").await;
        let orders: Vec<_> = left.iter().map(|it| it["order_id"].clone()).collect();
        (orders == [json!(younger.subject()), json!(waits.subject())]).then_some(())
    };
    eventually("expired rows are deleted", PATIENCE, pruned).await;
    house.until("the younger e-mail is left", 1, |row| row.sent).await;
    let jobs = reqwest::get(format!("http://{}/jobs?state=failed", running.admin)).await.unwrap();
    let jobs: Value = jobs.json().await.unwrap();
    assert_eq!(jobs["jobs"], json!([]), "a failed job's errors name an address");
    let (_, emails) = get(&running, "/emails", "demo-acme").await;
    assert_eq!(emails["emails"].as_array().unwrap().len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn a_customer_is_erased_and_no_other() {
    let third_party = ThirdParty::start().await.unwrap();
    let mut house = House::empty().await;
    house.webhooks.allow = third_party.address().to_string().parse().unwrap();
    let running = house.start().await;
    register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    let sent = completed_to("acme", "Grace@example.com");
    let other = completed_to("acme", "o'grace@example.com");
    for event in [&sent, &other] {
        house.send(event).await;
        until_delivery(&house, &running, event.subject(), "delivered").await;
    }
    third_party.behave(Behaviour { failure_rate: 1.0, ..Behaviour::default() });
    let waits = completed_to("acme", "grace@example.com");
    house.send(&waits).await;
    let tried = async || {
        let waiting = deliveries(&running, "status=waiting").await;
        waiting.iter().any(|it| it["attempts"] != json!([])).then_some(())
    };
    eventually("a first attempt", PATIENCE, tried).await;
    house.until("three e-mails", 3, |row| row.sent).await;

    let erasure = reqwest::Client::new().post(format!("http://{}/erasures", running.admin));
    let erasure = erasure.bearer_auth("operator");
    let erased =
        erasure.json(&json!({ "customer_email": "grace@example.com" })).send().await.unwrap();
    assert_eq!(erased.status(), 200);
    let (_, emails) = get(&running, "/emails", "demo-acme").await;
    let orders: Vec<_> =
        emails["emails"].as_array().unwrap().iter().map(|it| &it["order_id"]).collect();
    assert_eq!(orders, [other.subject()]);
    let left: Vec<(String, String)> =
        sqlx::query_as("select status, body from deliveries order by id")
            .fetch_all(&house.pool)
            .await
            .unwrap();
    let statuses: Vec<_> = left.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["delivered", "delivered", "cancelled"]);
    let named: Vec<_> = left.iter().map(|(_, body)| body.contains('@')).collect();
    assert_eq!(named, [false, true, false]);
    let delivery = deliveries(&running, &format!("order_id={}", sent.subject())).await;
    let path = format!("/deliveries/{}/redeliver", delivery[0]["id"].as_str().unwrap());
    assert_eq!(crate::house::post(&running, &path).await.0, 409);
    running.shutdown().await;
}
