//! Jobs that an operator discards, and their e-mails and deliveries.

use std::time::Duration;

use chassis::RunningService;
use envelope::Encoded;
use playground::{Behaviour, ThirdParty};
use reqwest::Client;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, completed, deliveries, get, post, register, until_delivery};

/// Starts a service with two e-mails and two deliveries that wait for their retry. No mail server
/// is listening.
async fn waiting() -> (House, ThirdParty, RunningService, [Encoded; 2]) {
    let third_party = ThirdParty::start().await.unwrap();
    let mut house = House::empty().await;
    house.webhooks.allow = third_party.address().to_string().parse().unwrap();
    house.webhooks.retries = vec![Duration::from_hours(1)];
    house.retention.every = Duration::from_millis(50);
    let running = house.start_smtp(1).await;
    register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    third_party.behave(Behaviour { failure_rate: 1.0, ..Behaviour::default() });
    let events = [completed("acme"), completed("acme")];
    for event in &events {
        house.send(event).await;
    }
    let tried = async || {
        let waiting = "select count(*) from job where attempts > 0 and worker is null";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&house.pool).await.unwrap();
        (waiting == 4).then_some(())
    };
    eventually("all wait", PATIENCE, tried).await;
    (house, third_party, running, events)
}

async fn discard(running: &RunningService, order: &str) {
    let discard = Client::new().post(format!("http://{}/jobs/discard", running.admin));
    let filter = json!({ "filter": { "state": "waiting", "subject": order }, "why": "a test" });
    let discarded = discard.bearer_auth("operator").json(&filter).send().await.unwrap();
    assert_eq!(discarded.json::<Value>().await.unwrap()["jobs"], 2);
}

#[tokio::test]
async fn what_waited_for_a_job_that_is_discarded_has_failed_and_may_be_repeated() {
    let (house, third_party, running, [lost, kept]) = waiting().await;
    // Jobs of the previous release have ids of their own.
    sqlx::query(
        "update job set id = gen_random_uuid(), run_at = now() + interval '1 hour' where subject = $1",
    )
    .bind(kept.subject())
    .execute(&house.pool)
    .await
    .unwrap();
    discard(&running, lost.subject()).await;

    let failed = async || {
        let failed = deliveries(&running, "status=failed").await;
        let (_, emails) = get(&running, "/emails?status=failed", "demo-acme").await;
        let email = emails["emails"].as_array().unwrap().first().cloned();
        Some((failed.first().cloned()?, email?))
    };
    let (delivery, email) = eventually("both have failed", PATIENCE, failed).await;
    let reason = "its job is gone: it was discarded, or ended by an earlier release";
    assert_eq!(
        (&delivery["failed_reason"], &email["last_error"]),
        (&json!(reason), &json!(reason))
    );
    for failed in [&delivery, &email] {
        assert_eq!(failed["order_id"], lost.subject());
    }
    assert_eq!(deliveries(&running, "status=waiting").await.len(), 1, "it has its job");

    // The tenant may repeat the delivery.
    third_party.behave(Behaviour::default());
    let path = format!("/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
    assert_eq!(post(&running, &path).await.0, 202);
    let delivered = until_delivery(&house, &running, lost.subject(), "delivered").await;
    assert_eq!(delivered[0]["failed_reason"], json!(null));
    running.shutdown().await;
}

#[tokio::test]
async fn what_waited_for_a_job_that_is_discarded_is_kept_as_long_as_others() {
    let (mut house, _third_party, running, events) = waiting().await;
    for event in &events {
        discard(&running, event.subject()).await;
    }
    running.shutdown().await;
    house.two_days_later(&["emails", "deliveries"]).await;
    house.keep_a_day();
    let running = house.start().await;
    let gone = async || {
        let (_, emails) = get(&running, "/emails", "demo-acme").await;
        let left = deliveries(&running, "limit=100").await;
        (left.is_empty() && emails["emails"] == json!([])).then_some(())
    };
    eventually("expired rows are deleted", PATIENCE, gone).await;
    running.shutdown().await;
}
