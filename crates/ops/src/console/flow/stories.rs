//! Flows for tests: a complete one, a failed and replayed one, a waiting one, and one with many
//! similar steps.

use serde_json::{Value, json};

use crate::flow::testing::{Answered, at, flow, service};
use crate::flow::{Flow, Lag};

const LETTER: &str = "01a20a9a-7779-774a-8232-000000000007";
const ERROR: &str = "issue the invoice: SQLSTATE 42P01: relation \"invoices\" does not exist";

/// Returns a step. Times are in microseconds after half past one.
pub(super) fn step(kind: &str, us: i64, took_us: u64, more: Value) -> Value {
    let mut step = json!({
        "kind": kind, "name": kind, "correlation_id": "c-1", "subject": "s-1", "duration_us": took_us,
        "started_at": at(0).plus(us).to_rfc3339(), "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    let Value::Object(more) = more else { panic!("no members") };
    step.as_object_mut().unwrap().extend(more);
    step
}

fn published(us: i64, event: &str, event_type: &str, place: (i32, i64)) -> [Value; 2] {
    let more = json!({ "event_id": event, "event_type": event_type });
    let mut publish = more.clone();
    publish["topic"] = json!(event_type);
    (publish["partition"], publish["offset"]) = (json!(place.0), json!(place.1));
    [step("outbox wait", us, 900, more), step("publish", us + 1_000, 1_400, publish)]
}

fn processed(us: i64, took_us: u64, event: (&str, &str), group: &str, outcome: &str) -> Value {
    let more = json!({
        "event_id": event.0, "event_type": event.1, "group": group, "topic": event.1, "partition": 0,
        "offset": 1234, "outcome": outcome,
    });
    step("process", us, took_us, more)
}

const COMPLETED: (&str, &str) = ("e-1", "order.completed");
const INVOICED: (&str, &str) = ("e-2", "invoice.issued");

fn order() -> Answered {
    let mut steps = vec![
        step("request", 0, 5_600, json!({ "name": "POST /orders", "status": 201 })),
        step(
            "deferred",
            6_400,
            2_300,
            json!({ "name": "deferred acknowledge", "task": "acknowledge" }),
        ),
    ];
    steps.extend(published(4_800, COMPLETED.0, COMPLETED.1, (0, 1234)));
    service("order", steps)
}

fn billing_steps(us: i64) -> Vec<Value> {
    let mut steps = vec![processed(us, 4_100, COMPLETED, "billing", "processed")];
    steps.extend(published(us + 3_200, INVOICED.0, INVOICED.1, (2, 77)));
    steps
}

fn notification(us: i64) -> Answered {
    let run =
        json!({ "job_id": 42, "job_kind": "send-email", "attempt": 1, "outcome": "succeeded" });
    let steps = vec![
        processed(us, 2_600, INVOICED, "notification", "processed"),
        step("job", us + 3_900, 18_200, run),
    ];
    service("notification", steps).subscribed("notification", INVOICED.1, "running")
}

fn analytics() -> Answered {
    let steps = vec![processed(9_300, 1_900, COMPLETED, "analytics", "processed")];
    service("analytics", steps).subscribed("analytics", COMPLETED.1, "running")
}

/// All services succeed.
pub(super) fn well() -> Flow {
    let billing =
        service("billing", billing_steps(8_700)).subscribed("billing", COMPLETED.1, "running");
    flow(vec![order(), billing, notification(15_300), analytics()], &Lag::Behind(0))
}

fn failed_step() -> Value {
    let mut failed = processed(8_700, 1_820_000, COMPLETED, "billing", "dead-lettered");
    let attempts = [0, 103_000, 512_000, 1_800_000].iter().zip(1..);
    let attempt = |(us, number): (&i64, i32)| json!({ "attempt": number, "at": at(0).plus(8_700 + us).to_rfc3339(), "error": ERROR });
    failed["attempts"] = attempts.map(attempt).collect();
    failed["error"] = json!(ERROR);
    failed
}

fn letter(status: &str) -> Value {
    json!({
        "kind": "dead letter", "letter_id": LETTER, "group": "billing", "event_id": "e-1",
        "event_type": "order.completed", "status": status, "failures": 4,
        "reason": "SQLSTATE 42P01: relation \"invoices\" does not exist", "since": at(1_829).to_rfc3339(),
    })
}

/// Billing failed, and its dead letter waits for an operator.
pub(super) fn failed() -> Flow {
    let billing =
        service("billing", vec![failed_step()]).subscribed("billing", COMPLETED.1, "running");
    flow(vec![order(), billing.open(vec![letter("dead")]), analytics()], &Lag::Behind(0))
}

/// Billing failed; its dead letter was rehearsed, then replayed.
pub(super) fn replayed() -> Flow {
    let row = |id: &str, ms, is_rehearsal: bool, why: &str| {
        json!({
            "kind": "replay", "replay_id": id, "group": "billing", "status": "done", "rehearsal": is_rehearsal,
            "by": "ada", "why": why, "since": at(ms).to_rfc3339(), "letter_id": LETTER, "outcome": "processed",
        })
    };
    let rehearsal =
        row("01a20a9b-7779-774a-8232-000000000008", 60_000, true, "is the table there?");
    let replay =
        row("01a20a9c-7779-774a-8232-000000000009", 90_000, false, "the table is there again");
    let mut steps = vec![failed_step()];
    let mut again = processed(90_050_000, 8_000, COMPLETED, "billing", "processed");
    (again["kind"], again["letter_id"]) = (json!("replay"), json!(LETTER));
    again["replay_id"] = replay["replay_id"].clone();
    steps.push(again);
    steps.extend(published(90_055_000, INVOICED.0, INVOICED.1, (2, 77)));
    let billing = service("billing", steps).subscribed("billing", COMPLETED.1, "running");
    let billing = billing.open(vec![letter("resolved"), rehearsal, replay]);
    flow(vec![order(), billing, notification(90_060_000), analytics()], &Lag::Behind(0))
}

/// Analytics has a lag, and notification is retrying.
pub(super) fn waiting() -> Flow {
    let billing =
        service("billing", billing_steps(8_700)).subscribed("billing", COMPLETED.1, "running");
    let parked = json!({
        "kind": "parked", "group": "notification", "topic": "invoice.issued", "partition": 0, "offset": 3,
        "event_id": "e-2", "event_type": "invoice.issued", "failures": 2, "since": at(21).to_rfc3339(),
        "error": "SQLSTATE 40001: could not serialize access",
    });
    let notification =
        service("notification", Vec::new()).subscribed("notification", INVOICED.1, "running");
    let analytics =
        service("analytics", Vec::new()).subscribed("analytics", COMPLETED.1, "running");
    flow(vec![order(), billing, notification.open(vec![parked]), analytics], &Lag::Behind(1204))
}

/// Billing failed twice before its instance was restarted, and is retrying.
pub(super) fn restarted() -> Flow {
    let mut unfinished = failed_step();
    for ending in ["outcome", "error"] {
        unfinished.as_object_mut().unwrap().remove(ending);
    }
    unfinished["attempts"].as_array_mut().unwrap().truncate(2);
    let parked = json!({
        "kind": "parked", "group": "billing", "topic": COMPLETED.1, "partition": 0, "offset": 1234,
        "event_id": COMPLETED.0, "failures": 2, "since": at(112).to_rfc3339(), "error": ERROR,
    });
    let billing =
        service("billing", vec![unfinished]).subscribed("billing", COMPLETED.1, "running");
    flow(vec![order(), billing.open(vec![parked]), analytics()], &Lag::Behind(0))
}

/// One request that published a number of orders, each of which was invoiced.
pub(super) fn many(orders: i64) -> Flow {
    let mut order =
        vec![step("request", 0, 9_000, json!({ "name": "POST /orders/import", "status": 202 }))];
    let (mut billing, mut jobs) = (Vec::new(), Vec::new());
    for number in 0..orders {
        let us = 8_000 + number * 400;
        let event = format!("e-{number}");
        order.extend(published(us, &event, COMPLETED.1, (0, number)));
        billing.push(processed(us + 3_000, 300, (&event, COMPLETED.1), "billing", "processed"));
        let run =
            json!({ "job_id": number, "job_kind": "stamp", "attempt": 1, "outcome": "succeeded" });
        jobs.push(step("job", us + 4_000, 900, run));
    }
    billing.extend(jobs);
    let billing = service("billing", billing).subscribed("billing", COMPLETED.1, "running");
    flow(vec![service("order", order), billing], &Lag::Behind(0))
}

/// All texts that a publisher can set are hostile.
pub(super) fn hostile() -> Flow {
    let evil = "</text></svg><script>alert(1)</script>\"'&\u{1b}[2J\u{202e}";
    let event = (evil, "evil\" onload=\"alert(1)");
    let mut steps =
        vec![step("request", 0, 900, json!({ "name": evil, "error": evil, "trace_id": evil }))];
    steps.extend(published(300, event.0, event.1, (0, 1)));
    steps.push(processed(2_800, 100, event, evil, evil));
    let open = json!({ "kind": evil, "reason": evil, "since": "9999-12-31T23:59:59Z" });
    let job = json!({ "kind": "job", "job_id": evil, "job_kind": evil, "state": evil, "error": evil, "since": at(4).to_rfc3339() });
    let endless = step("deferred", 500, u64::MAX, json!({ "name": evil }));
    steps.push(endless);
    flow(vec![service(evil, steps).open(vec![open, job])], &Lag::Behind(0))
}
