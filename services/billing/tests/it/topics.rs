//! Topics that billing owns.

use kafka::{TopicPolicy, TopicSpec, Topics};
use sandbox::testing::eventually;
use serde_json::Value;

use crate::house::{House, PATIENCE};

async fn readiness(running: &chassis::RunningService) -> Value {
    let response = reqwest::get(format!("http://{}/readyz", running.admin)).await.unwrap();
    assert_eq!(response.status(), 200, "it stays in rotation");
    response.json().await.unwrap()
}

#[tokio::test]
async fn with_verify_a_topic_that_is_missing_is_named_until_somebody_creates_it() {
    let house = House::untouched().await;
    let running = house.start_with(house.config().verifying_topics()).await;
    let named = async || {
        let body = readiness(&running).await;
        let topics = body["topics"].to_string();
        topics.contains("invoice.issued is missing: create it").then_some(body)
    };
    let body = eventually("the topic to be named", PATIENCE, named).await;
    assert_eq!(body["status"], "degraded");

    let subscriptions = body["subscriptions"].as_object().unwrap();
    let dead_letters = |group| TopicSpec::with_name(format!("{group}.dlq").into()).partitions(1);
    let mut owned = vec![events::INVOICE_ISSUED, events::INVOICE_CREDITED];
    owned.extend(subscriptions.keys().map(dead_letters));
    let topics = Topics { owned, ..Topics::default() };
    kafka::ensure(&house.settings, &topics, TopicPolicy::Create).await.unwrap();
    let well = async || (readiness(&running).await["topics"].is_null()).then_some(());
    eventually("the topic to be found", PATIENCE, well).await;
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn what_waits_for_a_topic_that_is_missing_is_named_until_it_is_published() {
    let house = House::untouched().await;
    let running = house.start_with(house.config().verifying_topics()).await;
    sqlx::query(
        "insert into outbox (shard, topic, key, headers, payload) values (0, 'invoice.issued', 'K', '{}', '{}')",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let named = async || {
        let body = readiness(&running).await;
        let outbox = body["outbox"].to_string();
        outbox.contains("events of the topic invoice.issued wait").then_some(body)
    };
    let body = eventually("the topic to be named", PATIENCE, named).await;
    assert_eq!(body["status"], "degraded");

    let topics = Topics { owned: vec![events::INVOICE_ISSUED], ..Topics::default() };
    kafka::ensure(&house.settings, &topics, TopicPolicy::Create).await.unwrap();
    let well = async || (readiness(&running).await["outbox"].is_null()).then_some(());
    eventually("the event to be published", PATIENCE, well).await;
    assert!(running.shutdown().await);
}
