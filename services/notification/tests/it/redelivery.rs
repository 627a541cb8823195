//! Deliveries that a tenant repeats, at any moment.

use std::time::Duration;

use chassis::RunningService;
use envelope::Encoded;
use reqwest::Method;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{
    House, PATIENCE, ask, completed, deliveries, get, post, register, until_delivery,
};
use crate::target::Target;

async fn started() -> (House, Target, RunningService, Value) {
    let target = Target::start().await;
    let mut house = House::empty().await;
    house.webhooks.allow = target.address.to_string().parse().unwrap();
    house.webhooks.retries = vec![Duration::from_hours(1)];
    let running = house.start().await;
    let webhook = register(&running, &target.url("shop")).await;
    (house, target, running, webhook)
}

async fn asked(target: &Target, times: usize) {
    let asked = async || (target.ids().len() == times).then_some(());
    eventually(&format!("request {times}"), PATIENCE, asked).await;
}

/// Returns the one delivery of an order.
async fn delivery(running: &RunningService, event: &Encoded) -> Option<Value> {
    deliveries(running, &format!("order_id={}", event.subject())).await.first().cloned()
}

async fn has(running: &RunningService, event: &Encoded, status: &str) -> Value {
    eventually(status, PATIENCE, async || {
        delivery(running, event).await.filter(|delivery| delivery["status"] == status)
    })
    .await
}

async fn redeliver(running: &RunningService, delivery: &Value) {
    let path = format!("/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
    assert_eq!(post(running, &path).await.0, 202);
}

#[tokio::test]
async fn what_is_asked_for_again_during_an_attempt_is_sent_again_however_that_ends() {
    for status in [200, 500, 410] {
        let (house, target, running, webhook) = started().await;
        target.answers(status, None);
        target.hesitates(true);
        let event = completed("acme");
        house.send(&event).await;
        asked(&target, 1).await;
        redeliver(&running, &delivery(&running, &event).await.unwrap()).await;
        target.hesitates(false);
        if status == 410 {
            // The 410 disabled the webhook, so the tenant has to enable it.
            has(&running, &event, "held").await;
            let id = webhook["id"].as_str().unwrap();
            assert_eq!(post(&running, &format!("/webhooks/{id}/enable")).await.0, 200);
            target.answers(200, None);
            redeliver(&running, &delivery(&running, &event).await.unwrap()).await;
        }
        asked(&target, 2).await;
        target.answers(200, None);
        if status == 500 {
            // Its one retry is left, because a round has all its attempts.
            until_delivery(&house, &running, event.subject(), "delivered").await;
        }
        let delivered = has(&running, &event, "delivered").await;
        let attempts = delivered["attempts"].as_array().unwrap();
        let seen: Vec<_> = attempts.iter().map(|it| it["status"].clone()).collect();
        let expected = match status {
            500 => vec![json!(500), json!(500), json!(200)],
            _ => vec![json!(status), json!(200)],
        };
        assert_eq!(seen, expected);
        house.until_no_job().await;
        running.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_asked_for_again_while_its_job_ends_without_an_attempt_is_sent() {
    let (house, target, running, webhook) = started().await;
    target.answers(500, None);
    let event = completed("acme");
    house.send(&event).await;
    let failed_once = async || {
        let delivery = delivery(&running, &event).await?;
        (delivery["attempts"] != json!([])).then_some(())
    };
    eventually("a first attempt", PATIENCE, failed_once).await;
    // Another delivery is answered with 410, while the job of this one is waiting.
    target.answers(410, None);
    house.send(&completed("acme")).await;
    let held = has(&running, &event, "held").await;
    let id = webhook["id"].as_str().unwrap();
    assert_eq!(post(&running, &format!("/webhooks/{id}/enable")).await.0, 200);
    target.answers(200, None);

    // The job is due, finds its delivery held, and is about to end.
    sqlx::raw_sql(
        "create function wait() returns trigger language plpgsql as
             $$ begin perform pg_advisory_xact_lock(17); return null; end $$;
         create trigger wait before delete on job for each statement execute function wait();",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let mut gate = house.pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(17)").execute(&mut *gate).await.unwrap();
    sqlx::query("update job set run_at = now()").execute(&house.pool).await.unwrap();
    house.until_waiting_for_a_lock().await;
    redeliver(&running, &held).await;
    gate.rollback().await.unwrap();

    let delivered = has(&running, &event, "delivered").await;
    assert!(target.ids().iter().filter(|it| **it == held["id"]).count() == 2, "{delivered}");
    let attempts = delivered["attempts"].as_array().unwrap();
    assert_eq!(attempts.last().unwrap()["status"], 200, "{delivered}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_job_of_the_release_before_delivers_and_one_of_an_earlier_round_does_nothing() {
    let (house, target, running, _) = started().await;
    target.answers(500, None);
    let (old, late) = (completed("acme"), completed("acme"));
    for (event, times) in [(&old, 1), (&late, 2)] {
        house.send(event).await;
        asked(&target, times).await;
    }
    let waiting = async || {
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from job where worker is null and attempts = 1")
                .fetch_one(&house.pool)
                .await
                .unwrap();
        (waiting == 2).then_some(())
    };
    eventually("both wait", PATIENCE, waiting).await;
    target.answers(200, None);
    sqlx::query("update deliveries set round = 3").execute(&house.pool).await.unwrap();
    sqlx::query(
        "update job set payload = json_build_object('delivery', payload ->> 'delivery') where subject = $1",
    )
    .bind(old.subject())
    .execute(&house.pool)
    .await
    .unwrap();
    sqlx::query("update job set run_at = now()").execute(&house.pool).await.unwrap();
    house.until_no_job().await;
    let ids = target.ids();
    assert_eq!(has(&running, &old, "delivered").await["id"], ids[2].as_str());
    assert_eq!(ids.len(), 3);
    redeliver(&running, &has(&running, &late, "waiting").await).await;
    has(&running, &late, "delivered").await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_tenant_says_in_which_states_deliveries_are_repeated() {
    let (house, target, running, webhook) = started().await;
    let (first, second) = (completed("acme"), completed("acme"));
    let mut cursor = String::new();
    for event in [&first, &second] {
        house.send(event).await;
        let delivered = has(&running, event, "delivered").await;
        if cursor.is_empty() {
            cursor = delivered["id"].as_str().unwrap().replace('-', "");
        }
    }
    let path = format!("/webhooks/{}/redeliver", webhook["id"].as_str().unwrap());
    let since = "2026-01-01T00:00:00Z";
    let repeat = async |body: &Value| {
        let (status, answer) = ask(&running, Method::POST, &path, body).await;
        (status, answer["redelivered"].clone(), answer)
    };
    assert_eq!(repeat(&json!({ "since": since })).await.1, 0, "what has failed or is held");
    for states in [json!(["failed"]), json!(["held", "failed"])] {
        assert_eq!(repeat(&json!({ "since": since, "state": states })).await.1, 0);
    }
    let delivered = json!({ "since": since, "state": ["delivered"] });
    assert_eq!(repeat(&delivered).await.1, 2);
    asked(&target, 4).await;
    has(&running, &first, "delivered").await;
    has(&running, &second, "delivered").await;
    let rest = json!({ "since": since, "state": ["delivered"], "cursor": cursor });
    assert_eq!(repeat(&rest).await.1, 1);
    asked(&target, 5).await;
    for state in [json!(["cancelled"]), json!(["lost"]), json!([]), json!("failed")] {
        let (status, _, problem) = repeat(&json!({ "since": since, "state": state })).await;
        assert_eq!(status, 422, "{problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("state"), "{problem}");
    }
    let (_, shown) = get(&running, "/deliveries?status=failed", "demo-acme").await;
    assert_eq!(shown["deliveries"], json!([]));
    running.shutdown().await;
}
