//! Targets that fail: the state of their webhooks, and what their tenants can do.

use std::time::{Duration, SystemTime};

use chassis::RunningService;
use reqwest::Method;
use sandbox::testing::eventually;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::house::{
    House, PATIENCE, ask, completed, deliveries, get, post, register, started_with, until_delivery,
};
use crate::target::Target;

async fn started() -> (House, Target, RunningService) {
    started_with(|_| {}).await
}

async fn shown(running: &RunningService, webhook: &Value) -> Value {
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    let (status, shown) = get(running, &path, "demo-acme").await;
    assert_eq!(status, 200, "{shown}");
    shown
}

async fn events(running: &RunningService, webhook: &Value) -> Vec<(String, Value)> {
    let path = format!("/webhooks/{}/events", webhook["id"].as_str().unwrap());
    let (_, body) = get(running, &path, "demo-acme").await;
    let events = body["events"].as_array().unwrap().iter();
    events.map(|it| (it["type"].as_str().unwrap().to_owned(), it["detail"].clone())).collect()
}

async fn failed_jobs(running: &RunningService) -> usize {
    let jobs = reqwest::get(format!("http://{}/jobs?state=failed", running.admin)).await.unwrap();
    jobs.json::<Value>().await.unwrap()["jobs"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_target_that_is_gone_is_disabled_at_once_and_what_waits_is_held() {
    let (house, target, running) = started().await;
    let webhook = register(&running, &target.url("shop")).await;
    assert_eq!((&webhook["status"], &webhook["disabled_at"]), (&json!("enabled"), &json!(null)));
    target.answers(500, None);
    let first = completed("acme");
    house.send(&first).await;
    let tried = async || {
        let deliveries = deliveries(&running, "status=waiting").await;
        deliveries.iter().any(|it| it["attempts"] != json!([])).then_some(())
    };
    eventually("a first attempt", PATIENCE, tried).await;
    assert!(shown(&running, &webhook).await["failing_since"].is_string());

    target.answers(410, None);
    let second = completed("acme");
    house.send(&second).await;
    let order = |event: &envelope::Encoded| format!("order_id={}&status=held", event.subject());
    for event in [&first, &second] {
        let held = async || (deliveries(&running, &order(event)).await.len() == 1).then_some(());
        eventually("it is held", PATIENCE, held).await;
    }
    let disabled = shown(&running, &webhook).await;
    assert_eq!(disabled["status"], "disabled", "{disabled}");
    assert!(disabled["disabled_at"].is_string(), "{disabled}");
    let reason = json!("the target answered 410 Gone");
    assert_eq!(disabled["disabled_reason"], reason);
    assert_eq!(events(&running, &webhook).await, [("webhook.disabled".to_owned(), reason)]);

    // Events meanwhile are held, and the target gets no request.
    let asked = target.ids().len();
    let third = completed("acme");
    house.send(&third).await;
    let held = async || (deliveries(&running, &order(&third)).await.len() == 1).then_some(());
    eventually("it is held", PATIENCE, held).await;
    until_delivery(&house, &running, first.subject(), "held").await;
    assert_eq!((target.ids().len(), failed_jobs(&running).await), (asked, 0));
    running.shutdown().await;
}

#[tokio::test]
async fn a_webhook_without_tls_of_an_earlier_release_is_disabled_and_not_asked() {
    let target = Target::start().await;
    let mut house = House::empty().await;
    house.webhooks.allow = target.address.to_string().parse().unwrap();
    let before = house.start().await;
    let webhook = register(&before, &target.url("shop")).await;
    before.shutdown().await;
    // As the previous release stored it: an http URL without an exemption.
    house.webhooks.allow = "".parse().unwrap();
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    let held = until_delivery(&house, &running, event.subject(), "held").await;
    let error = held[0]["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("register it with https://"), "{held:?}");
    let disabled = shown(&running, &webhook).await;
    assert_eq!(
        (&disabled["status"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!(error))
    );
    assert_eq!((target.ids().len(), failed_jobs(&running).await), (0, 0));
    running.shutdown().await;
}

#[tokio::test]
async fn a_disabled_webhook_is_enabled_and_told_what_it_missed() {
    let (house, target, running) = started().await;
    let webhook = register(&running, &target.url("shop")).await;
    let id = webhook["id"].as_str().unwrap();
    target.answers(410, None);
    let since = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let missed = [completed("acme"), completed("acme")];
    for event in &missed {
        house.send(event).await;
        until_delivery(&house, &running, event.subject(), "held").await;
    }
    target.answers(200, None);
    let delivery = deliveries(&running, "status=held").await[0]["id"].as_str().unwrap().to_owned();
    let again = format!("/webhooks/{id}/redeliver");
    for (path, body) in [
        (again.clone(), json!({ "since": since })),
        (format!("/webhooks/{id}/test"), json!({})),
        (format!("/deliveries/{delivery}/redeliver"), json!({})),
    ] {
        let (status, problem) = ask(&running, Method::POST, &path, &body).await;
        assert_eq!(status, 409, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("enable"), "{problem}");
    }
    let (status, enabled) = post(&running, &format!("/webhooks/{id}/enable")).await;
    assert_eq!((status, &enabled["status"]), (200, &json!("enabled")), "{enabled}");
    assert_eq!(enabled["failing_since"], json!(null));
    assert_eq!(post(&running, &format!("/webhooks/{id}/enable")).await.0, 200, "twice is once");
    let types: Vec<_> = events(&running, &webhook).await.into_iter().map(|it| it.0).collect();
    assert_eq!(types, ["webhook.enabled", "webhook.disabled"]);

    let later = json!({ "since": "2099-01-01T00:00:00Z" });
    let none = (202, json!({ "redelivered": 0, "has_more": false, "next_cursor": null }));
    assert_eq!(ask(&running, Method::POST, &again, &later).await, none);
    let bad = json!({ "since": "yesterday" });
    assert_eq!(ask(&running, Method::POST, &again, &bad).await.0, 422);
    let both = (202, json!({ "redelivered": 2, "has_more": false, "next_cursor": null }));
    assert_eq!(ask(&running, Method::POST, &again, &json!({ "since": since })).await, both);
    for event in &missed {
        let deliveries = until_delivery(&house, &running, event.subject(), "delivered").await;
        let statuses: Vec<_> = deliveries[0]["attempts"].as_array().unwrap().iter().collect();
        assert!(statuses.last().unwrap()["status"] == 200, "{statuses:?}");
    }
    assert_eq!(ask(&running, Method::POST, &again, &json!({ "since": since })).await, none);
    running.shutdown().await;
}

#[tokio::test]
async fn days_of_nothing_but_failures_disable_a_webhook_and_a_success_in_between_does_not() {
    let (house, target, running) = started().await;
    let webhook = register(&running, &target.url("shop")).await;
    let long_ago = async || has_failed_for_days(&house, 4).await;
    long_ago().await;
    let well = completed("acme");
    house.send(&well).await;
    until_delivery(&house, &running, well.subject(), "delivered").await;
    assert_eq!(shown(&running, &webhook).await["failing_since"], json!(null));

    target.answers(500, None);
    let first = completed("acme");
    house.send(&first).await;
    until_delivery(&house, &running, first.subject(), "failed").await;
    assert_eq!(shown(&running, &webhook).await["status"], "enabled", "not for long");
    long_ago().await;
    let second = completed("acme");
    house.send(&second).await;
    until_delivery(&house, &running, second.subject(), "held").await;
    let disabled = shown(&running, &webhook).await;
    assert_eq!(disabled["disabled_reason"], "no delivery has succeeded for 5days");
    running.shutdown().await;
}

#[tokio::test]
async fn a_last_attempt_that_disables_a_webhook_leaves_no_failed_job() {
    let (house, target, running) = started_with(|house| house.webhooks.retries.clear()).await;
    register(&running, &target.url("shop")).await;
    has_failed_for_days(&house, 4).await;
    target.answers(500, None);
    let event = completed("acme");
    house.send(&event).await;
    let held = until_delivery(&house, &running, event.subject(), "held").await;
    assert_eq!(held[0]["attempts"].as_array().unwrap().len(), 1, "{held:?}");
    house.until_no_job().await;
    running.shutdown().await;
}

/// Changes the webhook as if `failures` attempts had failed over six days, the last one a day ago.
async fn has_failed_for_days(house: &House, failures: i32) {
    sqlx::query(
        "update webhooks set failing_since = now() - interval '6 days', failures = $1,
                             failure_counted_at = now() - interval '1 day'",
    )
    .bind(failures)
    .execute(&house.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn two_failures_with_idle_days_between_them_do_not_disable_a_webhook_nor_does_a_burst() {
    let (house, target, running) = started().await;
    let webhook = register(&running, &target.url("shop")).await;
    has_failed_for_days(&house, 1).await;
    target.answers(500, None);
    let burst: Vec<_> = (0..8).map(|_| completed("acme")).collect();
    for event in &burst {
        house.send(event).await;
    }
    for event in &burst {
        until_delivery(&house, &running, event.subject(), "failed").await;
    }
    assert_eq!(shown(&running, &webhook).await["status"], "enabled");
    running.shutdown().await;
}

#[tokio::test]
async fn a_success_elsewhere_wins_over_the_failure_that_would_disable_a_webhook() {
    let (house, target, running) = started().await;
    let webhook = register(&running, &target.url("shop")).await;
    has_failed_for_days(&house, 9).await;
    // Another instance is about to commit a successful attempt of its own.
    let mut other = house.pool.begin().await.unwrap();
    sqlx::query(
        "update webhooks set failing_since = null, failures = 0, failure_counted_at = null",
    )
    .execute(&mut *other)
    .await
    .unwrap();
    target.answers(500, None);
    let event = completed("acme");
    house.send(&event).await;
    house.until_waiting_for_a_lock().await;
    other.commit().await.unwrap();
    until_delivery(&house, &running, event.subject(), "failed").await;
    assert_eq!(shown(&running, &webhook).await["status"], "enabled");
    running.shutdown().await;
}

/// Returns the number of seconds until the job of an order's delivery is due, and its attempts.
async fn due(house: &House, order: &str) -> Option<(f64, i32)> {
    sqlx::query_as(
        "select extract(epoch from run_at - now())::float8, attempts from job
         where kind = 'deliver-webhook' and subject = $1 and worker is null and run_at > now() + interval '5 minutes'",
    )
    .bind(order)
    .fetch_optional(&house.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_target_that_asks_for_time_gets_it_for_all_that_waits_for_it() {
    for status in [429, 503] {
        let (house, target, running) = started().await;
        let webhook = register(&running, &target.url("shop")).await;
        let in_two_hours = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(2));
        target.answers(status, Some(&in_two_hours));
        let (first, second) = (completed("acme"), completed("acme"));
        house.send(&first).await;
        let waits = async |event: &envelope::Encoded| {
            let due = async || due(&house, event.subject()).await;
            eventually("a retry that waits", PATIENCE, due).await
        };
        let (wait, attempts) = waits(&first).await;
        assert!((7_000.0..=7_200.0).contains(&wait) && attempts == 1, "{status}: {wait} s");
        let until = shown(&running, &webhook).await["paused_until"].clone();
        let until = OffsetDateTime::parse(until.as_str().unwrap(), &Rfc3339).unwrap();
        let pause = (until - OffsetDateTime::now_utc()).as_seconds_f64();
        assert!((3_400.0..=3_600.0).contains(&pause), "the pause is an hour at most: {pause} s");

        // Another delivery is not sent, and keeps all its attempts. Another webhook gets its
        // delivery.
        target.answers(200, None);
        house.send(&second).await;
        let (wait, attempts) = waits(&second).await;
        assert!((pause - 60.0..=1.2 * 3_600.0).contains(&wait) && attempts == 0, "{wait} s");
        assert_eq!(target.ids().len(), 1, "the target gets no request while it is paused");
        register(&running, &target.url("other")).await;
        house.send(&completed("acme")).await;
        let delivered = async || (target.ids().len() == 2).then_some(());
        eventually("the delivery to the other webhook", PATIENCE, delivered).await;

        sqlx::query("update webhooks set paused_until = now()").execute(&house.pool).await.unwrap();
        for event in [&first, &second] {
            until_delivery(&house, &running, event.subject(), "delivered").await;
        }
        assert_eq!(shown(&running, &webhook).await["paused_until"], json!(null));
        running.shutdown().await;
    }
}

#[tokio::test]
async fn what_waits_for_a_target_that_asks_for_seconds_is_looked_at_after_half_a_minute_to_a_minute()
 {
    let (house, target, running) = started().await;
    register(&running, &target.url("shop")).await;
    sqlx::query("update webhooks set paused_until = now() + interval '20 seconds'")
        .execute(&house.pool)
        .await
        .unwrap();
    // A paused delivery is checked without being written.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'written'; end $$;
         create trigger refuse before update on deliveries for each row execute function refuse();",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    for _ in 0..8 {
        house.send(&completed("acme")).await;
    }
    let waits: Vec<f64> = eventually("all are deferred", PATIENCE, async || {
        let waits: Vec<f64> = sqlx::query_scalar(
            "select extract(epoch from run_at - now())::float8 from job
             where kind = 'deliver-webhook' and worker is null and attempts = 0 and run_at > now() + interval '5 seconds'",
        )
        .fetch_all(&house.pool)
        .await
        .unwrap();
        (waits.len() == 8).then_some(waits)
    })
    .await;
    // Some seconds may have passed meanwhile.
    assert!(waits.iter().all(|wait| (24.5..=60.0).contains(wait)), "{waits:?}");
    let spread =
        waits.iter().copied().fold(0.0, f64::max) - waits.iter().copied().fold(60.0, f64::min);
    assert!(spread > 3.0, "the deliveries are due at different times: {waits:?}");
    assert!(target.ids().is_empty(), "the target gets no request while it is paused");
    running.shutdown().await;
}

#[tokio::test]
async fn the_schedule_is_configured() {
    let (house, target, running) = started_with(|house| {
        house.webhooks.retries = vec![Duration::from_millis(20); 2];
    })
    .await;
    register(&running, &target.url("shop")).await;
    target.answers(500, None);
    let event = completed("acme");
    house.send(&event).await;
    let failed = async || (failed_jobs(&running).await == 1).then_some(());
    eventually("it failed by itself", PATIENCE, failed).await;
    let failed = deliveries(&running, "status=failed").await;
    assert_eq!(failed[0]["attempts"].as_array().unwrap().len(), 3);

    // The tenant repeats the delivery without an operator.
    target.answers(204, None);
    let path = format!("/deliveries/{}/redeliver", failed[0]["id"].as_str().unwrap());
    let (status, answer) = post(&running, &path).await;
    assert_eq!((status, &answer["id"]), (202, &failed[0]["id"]), "{answer}");
    let delivered = async || {
        let (_, shown) = get(&running, path.trim_end_matches("/redeliver"), "demo-acme").await;
        (shown["status"] == "delivered").then_some(shown)
    };
    let shown = eventually("it is delivered", PATIENCE, delivered).await;
    assert_eq!(shown["order_id"], event.subject());
    assert_eq!(failed_jobs(&running).await, 0);
    // A delivered one can be repeated too, and by concurrent requests.
    let client = reqwest::Client::new();
    let url = format!("http://{}{path}", running.http);
    let repeat = async |_: usize| {
        client.post(&url).bearer_auth("demo-acme").send().await.unwrap().status().as_u16()
    };
    assert_eq!(futures::future::join_all((0..8).map(repeat)).await, [202; 8]);
    let redelivered = async || (target.ids().len() >= 5).then_some(());
    eventually("the repeated delivery", PATIENCE, redelivered).await;
    let id = failed[0]["id"].as_str().unwrap();
    assert!(target.ids().iter().all(|it| it == id), "one webhook-id");
    let foreign = get(&running, path.trim_end_matches("/redeliver"), "demo-globex").await;
    assert_eq!(foreign.0, 404);
    running.shutdown().await;
}
