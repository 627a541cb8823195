//! Output of `orderflow flow` for a flow that is known to all services.

use serde_json::json;

use crate::fake::{Known, Services};
use crate::output::run;
use crate::story::*;

#[tokio::test]
async fn an_order_that_went_well_is_a_tree_of_causes() {
    let services = Services::start(well()).await;
    let text = "
flow     c-1
subject  s-1
started  2026-11-26 01:30:00.123 UTC, took 42 ms
state    complete
trace    http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736

     0 ms  order         POST /orders  201                                  6 ms
     5 ms  order         ├ published order.completed 0@1234                 4 ms
                         │ │ outbox wait 2 ms
    11 ms  billing       │ ├ billing: processed                             4 ms
    14 ms  billing       │ │ └ published invoice.issued 2@77                4 ms
                         │ │   │ outbox wait 2 ms
    18 ms  notification  │ │   └ notification: processed                    3 ms
    22 ms  notification  │ │     └ job send-email: done                    20 ms
    12 ms  analytics     │ └ analytics: processed                           2 ms
     7 ms  order         └ deferred acknowledge                             3 ms
";
    services.run(&["c-1"]).await.is(0, text);
    let without_viewer = text.replace("http://localhost:16686/trace/", "");
    let mut command = services.command(&["c-1"]);
    command.env("JAEGER_URL", "off");
    run(command).await.is(0, &without_viewer);
    services.run(&["c-1", "--steps", "all", "--jaeger", "http://j/"]).await.is(
        0,
        "
flow     c-1
subject  s-1
started  2026-11-26 01:30:00.123 UTC, took 42 ms
state    complete
trace    http://j/trace/4bf92f3577b34da6a3ce929d0e0e4736

     0 ms  order         POST /orders  201                                  6 ms
                         │ trace 4bf92f3577b34da6a3ce929d0e0e4736
     5 ms  order         ├ published order.completed 0@1234                 4 ms
                         │ │ outbox wait 2 ms
                         │ │ event e-1
    11 ms  billing       │ ├ billing: processed                             4 ms
    14 ms  billing       │ │ └ published invoice.issued 2@77                4 ms
                         │ │   │ outbox wait 2 ms
                         │ │   │ event e-2
    18 ms  notification  │ │   └ notification: processed                    3 ms
    22 ms  notification  │ │     └ job send-email: done                    20 ms
                         │ │         job 42
    12 ms  analytics     │ └ analytics: processed                           2 ms
     7 ms  order         └ deferred acknowledge                             3 ms
                             trace 0af7651916cd43dd8448eb211c80319c
",
    );
}

#[tokio::test]
async fn an_order_id_is_resolved_to_its_correlation_ids_and_inboxes_are_asked() {
    let mut known = well();
    known[0].ids = vec!["c-1", "s-1"];
    for other in &mut known[1..] {
        other.ids = vec!["c-1"];
    }
    known[3].steps.clear();
    known[3].inbox = vec![("analytics", "e-1")];
    let services = Services::start(known).await;
    let ran = services.run(&["s-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let line = "    12 ms  analytics     │ └ analytics: processed (its step was not kept)";
    assert!(ran.out.lines().any(|it| it == line), "{}", ran.out);
    let requests = services.known("analytics").requests.clone();
    let asked = |id: &str, events: &[&str]| {
        (id.to_owned(), events.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(requests, [asked("s-1", &[]), asked("c-1", &["e-1"]), asked("c-1", &["e-2"])]);
}

#[tokio::test]
async fn a_dead_letter_shows_its_attempts_and_says_what_to_do() {
    let mut known = vec![order(), failed("dead"), analytics()];
    known[1].subscriptions = vec![("billing", "order.completed", "running")];
    let services = Services::start(known).await;
    services.run(&["c-1"]).await.is(
        1,
        "
flow     c-1
subject  s-1
started  2026-11-26 01:30:00.123 UTC, took 1.8 s
state    1 problem
trace    http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736

     0 ms  order      POST /orders  201                                     6 ms
     5 ms  order      ├ published order.completed 0@1234                    4 ms
                      │ │ outbox wait 2 ms
    11 ms  billing    │ ├ billing: dead-lettered after 4 attempts          1.8 s
                      │ │ │ 1  +0 ms    issue the invoice: SQLSTATE 42P01:
                      │ │ │   relation \"invoices\" does not exist
                      │ │ │ 2  +103 ms  the same
                      │ │ │ 3  +512 ms  the same
                      │ │ │ 4  +1.8 s   the same
    1.8 s  billing    │ │ └ dead letter, open
                      │ │     01a20a9a-7779-774a-8232-000000000007
    12 ms  analytics  │ └ analytics: processed                              2 ms
     7 ms  order      └ deferred acknowledge                                3 ms

billing has a dead letter: `orderflow dlq show
  01a20a9a-7779-774a-8232-000000000007`, then rehearse and replay it
",
    );
}

#[tokio::test]
async fn an_order_that_was_rehearsed_and_replayed_tells_the_whole_story() {
    let services = Services::start(vec![order(), resolved(), notified_later(), analytics()]).await;
    services.run(&["c-1"]).await.is(
        0,
        "
flow     c-1
subject  s-1
started  2026-11-26 01:30:00.123 UTC, took 1.5 min
state    complete
trace    http://localhost:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736

     0 ms  order         POST /orders  201                                  6 ms
     5 ms  order         ├ published order.completed 0@1234                 4 ms
                         │ │ outbox wait 2 ms
    11 ms  billing       │ ├ billing: dead-lettered after 4 attempts       1.8 s
                         │ │ │ 1  +0 ms    issue the invoice: SQLSTATE 42P01:
                         │ │ │   relation \"invoices\" does not exist
                         │ │ │ 2  +103 ms  the same
                         │ │ │ 3  +512 ms  the same
                         │ │ │ 4  +1.8 s   the same
    1.8 s  billing       │ │ └ dead letter, resolved
                         │ │   │ 01a20a9a-7779-774a-8232-000000000007
  1.0 min  billing       │ │   ├ rehearsal by ada: would be processed
                         │ │   │   why: is the table there?
  1.5 min  billing       │ │   └ replay by ada: processed                   8 ms
                         │ │     │ why: the table is there again
  1.5 min  billing       │ │     └ published invoice.issued 2@77            4 ms
                         │ │       │ outbox wait 2 ms
  1.5 min  notification  │ │       └ notification: processed                3 ms
  1.5 min  notification  │ │         └ job send-email: done                20 ms
    12 ms  analytics     │ └ analytics: processed                           2 ms
     7 ms  order         └ deferred acknowledge                             3 ms
",
    );
}

#[tokio::test]
async fn an_event_that_was_sent_directly_is_expected_at_its_receiver_only() {
    let mut known = well();
    known[0].steps.clear();
    known[3].steps.clear();
    let received = &mut known[1].steps[0];
    for member in ["topic", "partition", "offset"] {
        received.as_object_mut().unwrap().remove(member);
    }
    let ran = Services::start(known.clone()).await.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(!ran.out.contains("analytics"), "{}", ran.out);
    // Once it is also published, everybody gets it.
    known[0].steps.extend(published(5, "e-1", "order.completed", 0, 1234));
    let ran = Services::start(known).await.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.out.contains("analytics: expected, not seen yet"), "{}", ran.out);
}

#[tokio::test]
async fn what_is_expected_and_not_seen_is_named_even_without_kafka() {
    let mut known = well();
    known[3].steps.clear();
    known[3].subscriptions = vec![("analytics", "order.completed", "paused by ada: repair")];
    let services = Services::start(known).await;
    let ran = services.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for part in [
        "analytics     │ └ analytics: expected, not seen yet; Kafka",
        "unavailable, lag unknown",
        "paused by ada: repair",
        "state    under way, 1 thing waits",
        "analytics has not received order.completed yet; see `orderflow lag --group",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
}

#[tokio::test]
async fn what_is_open_is_told_from_the_tables_also_without_steps() {
    let mut order = Known::new("order");
    order.open = vec![
        json!({ "kind": "outbox", "event_id": "e-1", "event_type": "order.completed", "topic": "order.completed",
                              "since": at(0) }),
    ];
    let mut billing = Known::new("billing");
    billing.subscriptions = vec![("billing", "order.completed", "running")];
    let mut notification = Known::new("notification");
    notification.open = vec![
        json!({ "kind": "job", "job_id": 7, "job_kind": "send-email", "state": "failed", "attempts": 8, "since": at(20),
                "error": "the mail server refused" }),
        json!({ "kind": "parked", "group": "notification", "topic": "invoice.issued", "partition": 0, "offset": 3,
                "event_id": "e-2", "failures": 2, "since": at(30), "error": "SQLSTATE 40001" }),
    ];
    let services = Services::start(vec![order, billing, notification]).await;
    services.run(&["c-1"]).await.is(
        1,
        "
flow     c-1
started  2026-11-26 01:30:00.123 UTC, took 30 ms
state    1 problem, 2 things wait

     0 ms  order         order.completed waits in the outbox
           billing       └ billing: expected, once it is published
    20 ms  notification  job send-email: failed after 8 attempts
                           the mail server refused
                           job 7
                         event, its publication is not recorded
    30 ms  notification  └ notification: 2 attempts failed, retry under way
                             SQLSTATE 40001

a job failed, send-email: `orderflow jobs show 7`
order.completed waits in the outbox of order: see `orderflow status`
notification retries, failed attempts so far: 2
",
    );
}

#[tokio::test]
async fn a_message_that_an_instance_gave_up_waits_until_another_one_has_processed_it() {
    let mut known = vec![order(), failed("dead"), analytics()];
    known[1].open.clear();
    for ending in ["outcome", "error"] {
        known[1].steps[0].as_object_mut().unwrap().remove(ending);
    }
    let ran = Services::start(known.clone()).await.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for part in ["billing: failed, to be retried", "4  +1.8 s   the same", "1 thing waits"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    known[1].steps.push(processed(2_000, 4, "e-1", "order.completed", "billing", "processed"));
    let ran = Services::start(known).await.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.contains("billing: processed") && !ran.out.contains("again:"), "{}", ran.out);
}

#[tokio::test]
async fn of_500_steps_those_that_repeat_are_counted() {
    let mut known = vec![order(), billing()];
    known[1].steps.truncate(1);
    for number in 0..500_i64 {
        let (ms, took) = (20 + number, 2 + number.unsigned_abs() % 39);
        let more = json!({ "name": "run stamp", "job_id": number, "job_kind": "stamp", "attempt": 1, "outcome": "succeeded" });
        known[1].steps.push(step("job", ms, took, more));
    }
    let odd = json!({ "job_id": "x", "job_kind": "stamp", "attempt": 1, "outcome": "failed", "error": "no ink" });
    known[1].steps.push(step("job", 600, 5, odd));
    let services = Services::start(known).await;
    let ran = services.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.lines().count() < 20, "{}", ran.out);
    for part in
        ["job stamp: done", "... and 499 like it, 2 ms to 40 ms", "job stamp: failed", "no ink"]
    {
        assert_eq!(ran.out.matches(part).count(), 1, "{part}: {}", ran.out);
    }
    let all = services.run(&["c-1", "--steps", "all"]).await;
    assert_eq!(all.out.matches("job stamp: done").count(), 500);
}

#[tokio::test]
async fn hostile_text_can_neither_control_the_terminal_nor_break_the_columns() {
    let mut order = order();
    let hostile = format!("\u{1b}[2J\u{202e}evil\n\r\u{7}{}", "x".repeat(5000));
    order.steps[0]["name"] = json!(hostile);
    order.steps[0]["error"] = json!(hostile);
    order.steps[0]["trace_id"] = json!("../../evil?x");
    order.steps[1]["subject"] = json!(hostile);
    order.steps[1]["started_at"] = json!("no time");
    order.steps[2]["duration_us"] = json!(u64::MAX);
    order.correlation_ids = vec!["c-1", "\u{1b}]0;owned\u{7}"];
    order.open =
        vec![json!({ "kind": hostile, "reason": hostile, "since": "9999-12-31T23:59:59Z" })];
    let services = Services::start(vec![order]).await;
    for arguments in [&["c-1"][..], &["c-1", "--steps", "all"]] {
        let ran = services.run(arguments).await;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let text = ran.out.replace('\n', "");
        assert!(!text.contains(char::is_control) && !text.contains('\u{202e}'), "{}", ran.out);
        assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
        assert!(ran.out.contains("\\x1b[2J") && !ran.out.contains("trace/../"), "{}", ran.out);
    }
}

#[tokio::test]
async fn kinds_and_members_of_a_newer_release_are_shown_as_they_are() {
    let mut order = order();
    order.steps.push(step("teleport", 9, 1, json!({ "name": "to the moon", "speed": { "c": 1 } })));
    order.open = vec![json!({ "kind": "wormhole", "status": "ajar", "depth": 7, "since": at(40) })];
    order.instead = json!({ "novelty": [1, 2] });
    let services = Services::start(vec![order]).await;
    let ran = services.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.contains("teleport to the moon"), "{}", ran.out);
    assert!(ran.out.contains("wormhole: ajar"), "{}", ran.out);
    let json = services.run(&["c-1", "--json"]).await;
    assert!(json.out.contains("\"depth\": 7") && json.out.contains("\"speed\""), "{}", json.out);
}

#[tokio::test]
async fn events_that_cause_one_another_in_a_circle_are_printed_once() {
    let mut billing = Known::new("billing");
    for (event, other) in [("e-1", "e-2"), ("e-2", "e-1")] {
        billing.steps.push(processed(10, 5, event, "ping", "billing", "processed"));
        billing.steps.extend(published(11, other, "ping", 0, 1));
    }
    let services = Services::start(vec![billing]).await;
    let ran = services.run(&["c-1"]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(ran.out.matches("published ping").count(), 2, "{}", ran.out);
    assert_eq!(ran.out.matches("billing: processed").count(), 2, "{}", ran.out);
}

#[tokio::test]
async fn json_is_one_document_with_steps_as_they_were_sent() {
    let services = Services::start(vec![order(), failed("dead"), analytics()]).await;
    let ran = services.run(&["c-1", "--json"]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let flow = ran.json();
    assert_eq!(flow["state"], "failed");
    assert_eq!(flow["correlation_ids"], json!(["c-1"]));
    assert_eq!(flow["started_at"], "2026-11-26T01:30:00.123Z");
    assert_eq!(flow["trace_ids"], json!([TRACE]));
    let request = &flow["tree"][0];
    assert_eq!(request["steps"][0], order().steps[0]);
    let event = &request["children"][0];
    assert_eq!((&event["kind"], &event["event_id"]), (&json!("event"), &json!("e-1")));
    let delivery = &event["children"][0];
    assert_eq!((&delivery["group"], &delivery["in_inbox"]), (&json!("billing"), &json!(false)));
    assert_eq!(delivery["children"][0]["open"][0]["letter_id"], LETTER);
    let wanted = json!({ "kind": "dead_letter", "service": "billing", "group": "billing", "letter_id": LETTER, "status": "dead" });
    assert_eq!(flow["findings"], json!([wanted]));
}
