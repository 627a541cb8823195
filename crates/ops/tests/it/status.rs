//! `orderflow status`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake::{Fake, Known, act_of, check, group_of, job_of, letter_of, orderflow, replay_of};
use crate::output::{CommandOutput, run};

const METRICS: &str = "outbox_depth 0\noutbox_age_seconds 0\n\
    consumer_lag{messaging_consumer_group_name=\"billing\",messaging_destination_name=\"a\"} 2\n\
    consumer_lag{messaging_consumer_group_name=\"billing\",messaging_destination_name=\"b\"} 1\n";

fn well() -> Known {
    let acts = vec![act_of(7, "ada", "jobs.retry"), act_of(5, "grace", "subscription.pause")];
    Known { metrics: METRICS, acts, ..Known::default() }
}

async fn status(known: Known) -> CommandOutput {
    Fake::start(known).await.orderflow(&["status"]).await
}

#[tokio::test]
async fn what_is_well_is_a_line_each_and_fits_on_a_screen() {
    let (billing, order) = (Fake::start(well()).await, Fake::start(well()).await);
    let mut ignored = well();
    ignored.groups =
        vec![group_of("analytics", "f1", 3, "ignored"), group_of("x", "f2", 0, "resolved")];
    ignored.replays = vec![replay_of("done", 3, &json!({})), replay_of("running", 3, &json!({}))];
    ignored.jobs = vec![job_of(1, "send", "waiting")];
    let analytics = Fake::start(ignored).await;
    let services =
        [("order", order.address), ("billing", billing.address), ("analytics", analytics.address)];
    let ran = run(orderflow(&services, &["status"])).await;
    let parts = [
        "ok  services       order, billing, analytics are ready\n",
        "ok  Kafka          reachable\n",
        "ok  outbox         empty\n",
        "ok  subscriptions  3 running\n",
        "ok  lag            at most 9 messages, of billing, as measured by the services\n",
        "ok  dead letters   none open\n",
        "ok  jobs           none failed\n",
        "ok  replays        1 running\n",
        "2026-11-25 10:07:00 UTC ada jobs.retry target 7\n",
        "\nAll is well.\n",
    ];
    check(&ran, 0, &parts);
    assert_eq!(ran.out.matches("2026-11-25").count(), 3, "the last three acts: {}", ran.out);
    assert!(ran.out.lines().count() <= 20, "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
}

#[tokio::test]
async fn each_thing_that_is_not_well_says_so_and_what_to_do_next() {
    let away = json!({ "status": "degraded", "database": "up", "kafka": "away" });
    let unready = json!({ "status": "unready", "database": "unavailable: refused", "kafka": "up" });
    let readiness =
        |status, body: &Value| Known { readiness: Some((status, body.clone())), ..well() };
    let paused =
        json!({ "group": "billing", "state": "paused by ada: the rates\u{1b}", "instances": [] });
    let late = "outbox_depth 1234\noutbox_age_seconds 301.5\n";
    let behind = "consumer_lag{messaging_consumer_group_name=\"billing\"} 10001\n";
    let group = group_of("billing", "f1", 12, "regressed");
    let stuck = replay_of("paused", 500, &json!({ "processed": 340 }));
    let failed = || vec![job_of(2, "deliver", "failed"), job_of(1, "deliver", "failed")];
    for (known, expected, next) in [
        (readiness(200, &away), "Kafka          unavailable for billing", "check the brokers"),
        (readiness(200, &away), "billing is degraded: see below", "log"),
        (readiness(503, &unready), "unready: database unavailable: refused", "log"),
        (
            Known { subscriptions: Some(vec![paused]), ..well() },
            "billing: paused by ada: the rates\\x1b",
            "orderflow subscriptions",
        ),
        (Known { metrics: late, ..well() }, "billing: 1234 events, the oldest for 5 min", "log"),
        (Known { metrics: behind, ..well() }, "billing: 10001 messages", "orderflow"),
        (
            Known { groups: vec![group], ..well() },
            "billing: 12 (regressed): reason of f1",
            "orderflow dlq groups --group billing",
        ),
        (
            Known { jobs: failed(), ..well() },
            "billing: 2 deliver",
            "orderflow jobs list --state failed --service billing",
        ),
        (
            Known { jobs: failed(), page: Some(1), ..well() },
            "at least 1 failed",
            "orderflow jobs list",
        ),
        (
            Known { replays: vec![stuck], ..well() },
            "billing: replay paused, 340 of 500",
            "orderflow dlq replays show",
        ),
    ] {
        let ran = status(known).await;
        check(&ran, 1, &[expected, "Not all is well."]);
        assert!(ran.out.contains(&format!("next: {next}")) || ran.out.contains(next), "{ran:?}");
        assert!(ran.out.contains("next: "), "{ran:?}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_named_once_with_its_reason() {
    let billing = Fake::start(well()).await;
    let mut stopped = Fake::start(Known::default()).await;
    stopped.stop().await;
    let services = [("order", stopped.address), ("billing", billing.address)];
    let ran = run(orderflow(&services, &["status"])).await;
    check(&ran, 1, &["1 of 2 ready", "order: does not answer (", "ORDERFLOW_SERVICES"]);
    check(&ran, 1, &["?   subscriptions  1 running (unknown in order)\n"]);
    assert_eq!(ran.out.matches("does not answer").count(), 1, "{}", ran.out);
    let ran = run(orderflow(&services[..1], &["status"])).await;
    check(&ran, 1, &["0 of 1 ready", "unknown: no service answers"]);
}

#[tokio::test]
async fn a_part_that_does_not_come_is_named_and_does_not_hold_up_the_rest() {
    let began = Instant::now();
    let ran = status(Known { hangs: true, ..well() }).await;
    check(
        &ran,
        1,
        &["ok  services       billing is ready", "unknown in billing: no answer within 5 s"],
    );
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn json_has_the_verdict_the_areas_and_the_numbers() {
    let mut known = well();
    known.groups = vec![group_of("billing", "f1", 12, "open")];
    known.letters = vec![letter_of("billing", 1, "dead")];
    known.jobs = vec![job_of(2, "deliver", "failed")];
    let fake = Fake::start(known).await;
    let ran = fake.orderflow(&["status", "--json"]).await;
    check(&ran, 1, &[]);
    let status = ran.json();
    assert_eq!(status["is_well"], false);
    let service = json!({ "service": "billing", "status": "ready", "why": [], "kafka": "up", "outbox_depth": 0,
        "outbox_age_seconds": 0.0 });
    assert_eq!(status["services"], json!([service]));
    assert_eq!(status["lag"], json!([{ "group": "billing", "messages": 3 }]));
    let failed = json!([{ "service": "billing", "kind": "deliver", "jobs": 1 }]);
    assert_eq!((&status["failed_jobs"], &status["dead_letters"][0]["open"]), (&failed, &json!(12)));
    let letters =
        status["areas"].as_array().unwrap().iter().find(|it| it["area"] == "dead letters");
    let letters = letters.unwrap();
    assert_eq!(
        (&letters["is_well"], &letters["next"]),
        (&json!(false), &json!("orderflow dlq groups --group billing"))
    );
    assert_eq!(status["acts"][0]["service"], "billing");
}
