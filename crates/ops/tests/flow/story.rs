//! The flow of one order, as responses of the services.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fake::Known;

/// Trace of the request, and trace of the task after it.
pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const LATER: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const LETTER: &str = "01a20a9a-7779-774a-8232-000000000007";
pub(crate) const REHEARSAL: &str = "01a20a9b-7779-774a-8232-000000000008";
pub(crate) const REPLAY: &str = "01a20a9c-7779-774a-8232-000000000009";

/// Returns a time in milliseconds after the order was placed, at half past one and 123 ms.
pub(crate) fn at(ms: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis((1_795_656_600_123 + ms).unsigned_abs());
    humantime::format_rfc3339_micros(at).to_string()
}

/// Returns a step of the order's flow.
pub(crate) fn step(kind: &str, ms: i64, took_ms: u64, more: Value) -> Value {
    let mut step = json!({
        "kind": kind, "name": kind, "correlation_id": "c-1", "started_at": at(ms), "duration_us": took_ms * 1000,
        "instance": "i-1", "trace_id": TRACE, "subject": "s-1",
    });
    with(&mut step, more);
    step
}

fn with(step: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("no members") };
    step.as_object_mut().unwrap().extend(more);
}

/// Returns the steps with which an event is published.
pub(crate) fn published(
    ms: i64,
    event: &str,
    event_type: &str,
    partition: i32,
    offset: i64,
) -> [Value; 2] {
    let more = json!({ "event_id": event, "event_type": event_type });
    let wait = step("outbox wait", ms, 2, more.clone());
    let mut publish = step("publish", ms + 3, 1, more);
    with(
        &mut publish,
        json!({ "name": format!("send {event_type}"), "topic": event_type, "partition": partition, "offset": offset }),
    );
    [wait, publish]
}

/// Returns the step in which a group processed an event.
pub(crate) fn processed(
    ms: i64,
    took_ms: u64,
    event: &str,
    event_type: &str,
    group: &str,
    outcome: &str,
) -> Value {
    let more = json!({
        "name": format!("process {event_type}"), "event_id": event, "event_type": event_type, "group": group,
        "topic": event_type, "partition": 0, "offset": 1234, "outcome": outcome,
    });
    step("process", ms, took_ms, more)
}

pub(crate) fn order() -> Known {
    let mut order = Known::new("order");
    order.steps = vec![
        step("request", 0, 6, json!({ "name": "POST /orders", "status": 201 })),
        step(
            "deferred",
            7,
            3,
            json!({ "name": "deferred acknowledge", "task": "acknowledge", "trace_id": LATER }),
        ),
    ];
    order.steps.extend(published(5, "e-1", "order.completed", 0, 1234));
    order
}

pub(crate) fn billing() -> Known {
    let mut billing = Known::new("billing");
    billing.subscriptions = vec![("billing", "order.completed", "running")];
    billing.steps = vec![processed(11, 4, "e-1", "order.completed", "billing", "processed")];
    billing.steps.extend(published(14, "e-2", "invoice.issued", 2, 77));
    billing
}

pub(crate) fn notification() -> Known {
    let mut notification = Known::new("notification");
    notification.subscriptions = vec![("notification", "invoice.issued", "running")];
    let run = json!({ "name": "run send-email", "job_id": 42, "job_kind": "send-email", "attempt": 1, "outcome": "succeeded" });
    notification.steps = vec![
        processed(18, 3, "e-2", "invoice.issued", "notification", "processed"),
        step("job", 22, 20, run),
    ];
    notification
}

pub(crate) fn analytics() -> Known {
    let mut analytics = Known::new("analytics");
    analytics.subscriptions = vec![("analytics", "order.completed", "running")];
    analytics.steps = vec![processed(12, 2, "e-1", "order.completed", "analytics", "processed")];
    analytics
}

/// Returns all services, after an order without failures.
pub(crate) fn well() -> Vec<Known> {
    vec![order(), billing(), notification(), analytics()]
}

const ERROR: &str = "issue the invoice: SQLSTATE 42P01: relation \"invoices\" does not exist";

/// Returns billing after four failed attempts, with a dead letter of that status.
pub(crate) fn failed(status: &str) -> Known {
    let mut billing = billing();
    let mut step = processed(11, 1820, "e-1", "order.completed", "billing", "dead-lettered");
    let attempts = [0, 103, 512, 1800].iter().zip(1..);
    let attempts = attempts.map(
        |(after, attempt)| json!({ "attempt": attempt, "at": at(11 + after), "error": ERROR }),
    );
    let attempts = attempts.collect::<Vec<_>>();
    with(&mut step, json!({ "attempts": attempts, "error": ERROR }));
    billing.steps = vec![step];
    billing.open = vec![json!({
        "kind": "dead letter", "letter_id": LETTER, "group": "billing", "event_id": "e-1", "event_type": "order.completed",
        "status": status, "reason": "SQLSTATE 42P01: relation \"invoices\" does not exist", "failures": 4,
        "since": at(1831),
    })];
    billing
}

/// Returns billing after the letter was rehearsed and replayed, and the invoice was issued.
pub(crate) fn resolved() -> Known {
    let mut billing = failed("resolved");
    let row = |id: &str, ms, is_rehearsal: bool, why: &str| {
        json!({
            "kind": "replay", "replay_id": id, "group": "billing", "status": "done", "rehearsal": is_rehearsal, "by": "ada",
            "why": why, "since": at(ms), "letter_id": LETTER, "outcome": "processed",
        })
    };
    billing.open.push(row(REHEARSAL, 60_000, true, "is the table there?"));
    billing.open.push(row(REPLAY, 90_000, false, "the table is there again"));
    let mut replayed = processed(90_050, 8, "e-1", "order.completed", "billing", "processed");
    with(&mut replayed, json!({ "kind": "replay", "replay_id": REPLAY, "letter_id": LETTER }));
    billing.steps.push(replayed);
    billing.steps.extend(published(90_055, "e-2", "invoice.issued", 2, 77));
    billing
}

/// Returns notification, which received the invoice after the replay.
pub(crate) fn notified_later() -> Known {
    let mut notification = notification();
    for (step, ms) in notification.steps.iter_mut().zip([90_060, 90_064]) {
        step["started_at"] = json!(at(ms));
    }
    notification
}
