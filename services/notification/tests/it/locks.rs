//! Jobs are locked before the rows that they belong to, everywhere where both are locked. The
//! opposite order leads to deadlocks.

use std::time::Duration;

use chassis::RunningService;
use reqwest::{Client, Method};
use sandbox::testing::eventually;
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::sleep;
use uuid::Uuid;

use crate::house::{House, PATIENCE, ask, completed, deliveries, post, register, started_with};
use crate::target::Target;

/// Starts a service with a delivery that has failed for good, and its failed job.
async fn failed() -> (House, Target, RunningService) {
    let retries = vec![Duration::from_millis(10)];
    let (house, target, running) = started_with(|house| house.webhooks.retries = retries).await;
    register(&running, &target.url("shop")).await;
    target.answers(500, None);
    house.send(&completed("acme")).await;
    let failed = async || (deliveries(&running, "status=failed").await.len() == 1).then_some(());
    eventually("it has failed", PATIENCE, failed).await;
    (house, target, running)
}

/// Locks like a worker that records the end of an attempt: the job and then, once `other` waits for
/// that, the delivery. Returns the result of `other`.
async fn beside_a_worker<T>(house: &House, other: impl Future<Output = T>) -> T {
    let mut tx = house.pool.begin().await.unwrap();
    // Shorter than Postgres's `deadlock_timeout`, after which it may abort the other transaction.
    sqlx::query("set local lock_timeout = '500ms'").execute(&mut *tx).await.unwrap();
    sqlx::query("select from job for update").execute(&mut *tx).await.unwrap();
    let then = async {
        house.until_waiting_for_a_lock().await;
        let locked = sqlx::query("update deliveries set delivered_at = now()");
        assert_ne!(locked.execute(&mut *tx).await.unwrap().rows_affected(), 0);
        tx.commit().await.unwrap();
    };
    tokio::join!(other, then).0
}

#[tokio::test]
async fn a_delivery_whose_attempt_can_not_be_recorded_is_not_sent() {
    let retries = vec![Duration::from_secs(1); 3];
    let (house, target, running) = started_with(|house| house.webhooks.retries = retries).await;
    register(&running, &target.url("shop")).await;
    target.answers(500, None);
    house.send(&completed("acme")).await;
    let attempted = async || {
        let deliveries = deliveries(&running, "status=waiting").await;
        deliveries.iter().any(|it| it["attempts"] != json!([])).then_some(())
    };
    eventually("a first attempt", PATIENCE, attempted).await;
    target.answers(200, None);
    let mut tx = house.pool.begin().await.unwrap();
    sqlx::query("select from deliveries for update").execute(&mut *tx).await.unwrap();
    house.until_waiting_for_a_lock().await;
    assert_eq!(target.ids().len(), 1, "nothing more is sent");
    tx.rollback().await.unwrap();
    let delivered =
        async || (deliveries(&running, "status=delivered").await.len() == 1).then_some(());
    eventually("it is delivered", PATIENCE, delivered).await;
    assert_eq!(target.ids().len(), 2);
    running.shutdown().await;
}

/// Locks rows while the target has a first request, which it then answers.
async fn locked_during_a_request(
    house: &House,
    target: &Target,
    rows: &'static str,
) -> Transaction<'static, Postgres> {
    target.hesitates(true);
    house.send(&completed("acme")).await;
    let asked = async || (target.ids().len() == 1).then_some(());
    eventually("a request", PATIENCE, asked).await;
    let mut tx = house.pool.begin().await.unwrap();
    sqlx::query(rows).execute(&mut *tx).await.unwrap();
    target.hesitates(false);
    tx
}

#[tokio::test]
async fn a_delivery_that_was_accepted_while_it_could_not_be_recorded_is_sent_once() {
    let (house, target, running) = started_with(|_| {}).await;
    register(&running, &target.url("shop")).await;
    let locked = "select from deliveries for update";
    let tx = locked_during_a_request(&house, &target, locked).await;
    house.until_waiting_for_a_lock().await;
    // As in a failover, which ends all sessions.
    sqlx::query(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    tx.rollback().await.unwrap();
    let delivered =
        async || (deliveries(&running, "status=delivered").await.len() == 1).then_some(());
    eventually("it is delivered", PATIENCE, delivered).await;
    house.until_no_job().await;
    assert_eq!(target.ids().len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_that_refused_is_not_asked_again_while_its_webhook_is_locked() {
    let retries = vec![Duration::from_hours(1)];
    let (house, target, running) = started_with(|house| house.webhooks.retries = retries).await;
    register(&running, &target.url("shop")).await;
    target.answers(500, None);
    let locked = "select from webhooks for update";
    let tx = locked_during_a_request(&house, &target, locked).await;
    // Longer than the service waits for a lock.
    sleep(Duration::from_secs(7)).await;
    tx.rollback().await.unwrap();
    let attempts = async || {
        let attempts = deliveries(&running, "status=waiting").await.first()?["attempts"].clone();
        attempts[0].is_object().then_some(attempts)
    };
    let attempts = eventually("the attempt", PATIENCE, attempts).await;
    assert_eq!((attempts.as_array().unwrap().len(), &attempts[0]["status"]), (1, &json!(500)));
    assert_eq!(target.ids().len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn an_event_is_delivered_if_its_webhook_is_enabled_meanwhile() {
    let (house, target, running) = started_with(|_| {}).await;
    register(&running, &target.url("shop")).await;
    let disable =
        "update webhooks set status = 'disabled', disabled_at = now(), disabled_reason = 'test'";
    sqlx::query(disable).execute(&house.pool).await.unwrap();
    let mut tx = house.pool.begin().await.unwrap();
    let enable =
        "update webhooks set status = 'enabled', disabled_at = null, disabled_reason = null";
    sqlx::query(enable).execute(&mut *tx).await.unwrap();
    let enabled_meanwhile = async {
        house.until_waiting_for_a_lock().await;
        tx.commit().await.unwrap();
    };
    let event = completed("acme");
    tokio::join!(house.send(&event), enabled_meanwhile);
    let delivered =
        async || (deliveries(&running, "status=delivered").await.len() == 1).then_some(());
    eventually("it is delivered", PATIENCE, delivered).await;
    running.shutdown().await;
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let count = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(count).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn an_erasure_waits_for_a_worker_and_a_worker_not_for_an_erasure() {
    let (house, _target, running) = failed().await;
    let request = Client::new().post(format!("http://{}/erasures", running.admin));
    let request =
        request.bearer_auth("operator").json(&json!({ "customer_email": "ada@example.com" }));
    let erased = beside_a_worker(&house, request.send()).await;
    assert_eq!(erased.unwrap().status(), 200);
    assert_eq!(count(&house.pool, "job").await, 0);
    running.shutdown().await;
}

#[tokio::test]
async fn retention_waits_for_a_worker_and_a_worker_not_for_retention() {
    let (mut house, _target, running) = failed().await;
    running.shutdown().await;
    house.two_days_later(&["deliveries", "job"]).await;
    house.keep_a_day();
    let running = beside_a_worker(&house, Box::pin(house.start())).await;
    let pruned = async || (count(&house.pool, "deliveries").await == 0).then_some(());
    eventually("it is gone", PATIENCE, pruned).await;
    assert_eq!(count(&house.pool, "job").await, 0);
    running.shutdown().await;
}

#[tokio::test]
async fn a_redelivery_waits_for_a_worker_and_a_worker_not_for_a_redelivery() {
    let (house, target, running) = failed().await;
    target.answers(200, None);
    let id = deliveries(&running, "status=failed").await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/deliveries/{id}/redeliver");
    let accepted = beside_a_worker(&house, post(&running, &path)).await;
    assert_eq!(accepted.0, 202);
    let delivered =
        async || (deliveries(&running, "status=delivered").await.len() == 1).then_some(());
    eventually("it is delivered", PATIENCE, delivered).await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_redelivery_of_many_has_locked_no_delivery_when_it_waits_for_a_worker() {
    let (house, target, running) = failed().await;
    // Made before the delivery that has a job, which is then the first of the second chunk.
    sqlx::query(
        "insert into deliveries (id, webhook_id, tenant_id, order_id, event_source, event_id, event_type, url, body,
                                 status)
         select ('019e807a-ec00-7000-8000-' || lpad(n::text, 12, '0'))::uuid, webhook_id, tenant_id, order_id,
             event_source, n::text, event_type, url, body, status
         from deliveries, generate_series(1, 500) n",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    target.answers(200, None);
    let webhook: Uuid =
        sqlx::query_scalar("select id from webhooks").fetch_one(&house.pool).await.unwrap();
    let path = format!("/webhooks/{webhook}/redeliver");
    let body = json!({ "since": "2026-01-01T00:00:00Z" });
    let asked = ask(&running, Method::POST, &path, &body);
    let accepted = beside_a_worker(&house, asked).await;
    let all = json!({ "redelivered": 501, "has_more": false, "next_cursor": null });
    assert_eq!(accepted, (202, all));
    running.shutdown().await;
}
