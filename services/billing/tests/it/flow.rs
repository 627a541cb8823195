//! `GET /flows/{id}`: the steps of a flow, and its open work.

use std::time::Duration;

use chassis::RunningService;
use envelope::{CorrelationId, Encoded};
use reqwest::{Client, Method};
use sandbox::testing::eventually;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::house::{House, PATIENCE, completed};

async fn start(house: &House) -> RunningService {
    testbed::traced("billing");
    house.start().await
}

/// Returns a completed order in a flow of this name.
fn completed_in(flow: &str) -> Encoded {
    let mut event = completed("acme");
    event.envelope.correlation_id = CorrelationId::new(flow).unwrap();
    event
}

async fn ask(
    running: &RunningService,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let url = format!("http://{}{path}", running.admin);
    let mut request = Client::new().request(method, url).bearer_auth("operator");
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn flow(running: &RunningService, id: &str) -> Value {
    let (status, flow) = ask(running, Method::GET, &format!("/flows/{id}"), None).await;
    assert_eq!(status, 200, "{flow}");
    flow
}

/// Waits until a flow fulfils a condition, and returns it.
async fn flow_with(running: &RunningService, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        last = flow(running, id).await;
        if is_it(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the condition was never fulfilled, last by {last:#}")
}

/// Returns the entries of a kind, without those of subscriptions other than `billing`.
fn all<'a>(flow: &'a Value, list: &str, kind: &str) -> Vec<&'a Value> {
    entries(flow, list).into_iter().filter(|it| it["kind"] == kind).collect()
}

fn entries<'a>(flow: &'a Value, list: &str) -> Vec<&'a Value> {
    let is_billings = |it: &&Value| it.get("group").is_none_or(|group| group == "billing");
    flow[list].as_array().unwrap().iter().filter(is_billings).collect()
}

/// Returns the outcomes of the steps of a kind, oldest first.
fn outcomes<'a>(flow: &'a Value, kind: &str) -> Vec<&'a str> {
    let of = |step: &&'a Value| step["outcome"].as_str().unwrap_or("none");
    all(flow, "steps", kind).iter().map(of).collect()
}

async fn set_fault(running: &RunningService, fault: Option<Value>) {
    let body = json!({ "subscription": "billing", "fault": fault });
    assert_eq!(ask(running, Method::PUT, "/faults", Some(&body)).await.0, 204);
}

async fn replay(running: &RunningService, letter: &Value, rehearse: bool) {
    let body = json!({ "group": "billing", "ids": [letter], "rehearse": rehearse, "why": "fixed" });
    let (status, replay) = ask(running, Method::POST, "/replays", Some(&body)).await;
    assert_eq!(status, 201, "{replay}");
    let path = format!("/replays/{}", replay["id"].as_str().unwrap());
    let done = async || {
        let replay = ask(running, Method::GET, &path, None).await.1;
        (replay["status"] == "done").then_some(())
    };
    eventually("the replay to be done", PATIENCE, done).await;
}

/// Asserts that a step has all attributes of the processed event.
fn assert_describes(step: &Value, event: &Encoded) {
    for (member, value) in [
        ("name", "process order.completed"),
        ("group", "billing"),
        ("topic", "order.completed"),
        ("event_id", event.envelope.id.as_str()),
        ("event_type", "order.completed"),
        ("source", "/order"),
        ("subject", event.subject()),
        ("correlation_id", "flow-dies"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ] {
        assert_eq!(step[member], value, "{member}");
    }
}

/// Asserts that the step and these attempts failed.
fn assert_has_failed(step: &Value, expected: [i64; 4]) {
    let attempts = step["attempts"].as_array().unwrap();
    let numbers: Vec<_> = attempts.iter().map(|it| it["attempt"].as_i64().unwrap()).collect();
    assert_eq!(numbers, expected);
    for failed in attempts.iter().chain([step]) {
        assert!(failed["error"].as_str().unwrap().contains("Tax rates are gone"), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_dies_and_is_replayed_is_told_from_its_first_attempt_to_its_effect() {
    let house = House::empty().await;
    let running = start(&house).await;
    set_fault(&running, Some(json!({ "kind": "transient", "reason": "Tax rates are gone" }))).await;
    let event = completed_in("flow-dies");
    let (partition, offset) = house.send(&event).await;
    let id = event.envelope.id.as_str();

    let parked = flow_with(&running, id, |it| !all(it, "open", "parked").is_empty()).await;
    let parked = all(&parked, "open", "parked")[0];
    assert_eq!((&parked["group"], &parked["event_id"]), (&"billing".into(), &id.into()));
    assert_eq!((&parked["partition"], &parked["offset"]), (&partition.into(), &offset.into()));
    assert!(parked["error"].as_str().unwrap().contains("Tax rates are gone"), "{parked}");

    let dead = flow_with(&running, "flow-dies", |it| outcomes(it, "process").len() == 1).await;
    let step = all(&dead, "steps", "process")[0];
    assert_eq!(step["outcome"], "dead-lettered");
    assert_eq!((&step["partition"], &step["offset"]), (&partition.into(), &offset.into()));
    assert_describes(step, &event);
    assert_has_failed(step, [1, 2, 3, 4]);
    assert!(step["duration_us"].as_i64().unwrap() > 8_000_000, "it lasted until it was settled");
    let letter = all(&dead, "open", "dead letter")[0];
    assert_eq!((&letter["status"], &letter["failures"]), (&"dead".into(), &4.into()));
    assert_eq!(all(&dead, "open", "parked"), [] as [&Value; 0]);
    assert_eq!(entries(&dead, "inbox"), [] as [&Value; 0], "it has had no effect");

    set_fault(&running, None).await;
    replay(&running, &letter["letter_id"], true).await;
    replay(&running, &letter["letter_id"], false).await;
    let path = format!("{}?events={id}", event.subject());
    let resolved = flow_with(&running, &path, |it| {
        outcomes(it, "replay").len() == 1 && outcomes(it, "publish").len() == 1
    })
    .await;
    assert_eq!(outcomes(&resolved, "replay"), ["processed"], "the rehearsal is no step");
    let replays = all(&resolved, "open", "replay");
    let results: Vec<_> = replays.iter().map(|it| (&it["rehearsal"], &it["outcome"])).collect();
    let processed = Value::from("processed");
    assert_eq!(results, [(&Value::Bool(true), &processed), (&Value::Bool(false), &processed)]);
    assert_eq!((&replays[0]["by"], &replays[0]["why"]), (&"operator".into(), &"fixed".into()));
    let step = all(&resolved, "steps", "replay")[0];
    assert_eq!(step["replay_id"], replays[1]["replay_id"]);
    assert_eq!(step["letter_id"], letter["letter_id"]);
    assert_eq!(all(&resolved, "open", "dead letter")[0]["status"], "resolved");
    let inbox = entries(&resolved, "inbox");
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0]["event_id"], id);

    // The event that it causes belongs to the same flow.
    let published = all(&resolved, "steps", "publish")[0];
    assert_eq!(published["event_type"], "invoice.issued");
    assert!(published["partition"].is_i64() && published["offset"].is_i64(), "{published}");
    assert_eq!(outcomes(&resolved, "outbox wait").len(), 1);
    assert_eq!(resolved["correlation_ids"], json!(["flow-dies"]));
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_a_step_by_whatever_way_it_comes() {
    let house = House::empty().await;
    let running = start(&house).await;
    let event = completed_in("flow-twice");
    house.send(&event).await;
    house.invoiced(1).await;
    house.send(&event).await;
    let url = format!("http://{}/events", running.http);
    let post = Client::new().post(url).headers(chassis::binary_headers(&event.envelope));
    let posted = post.bearer_auth("sender").body(event.data.clone()).send().await.unwrap();
    assert_eq!(posted.status(), 200);
    let shown = flow_with(&running, "flow-twice", |it| outcomes(it, "process").len() == 3).await;
    let mut outcomes = outcomes(&shown, "process");
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["duplicate", "duplicate", "processed"]);
    assert_eq!(entries(&shown, "inbox").len(), 1);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_in_one_process_do_not_mix() {
    let (house, other) = (House::empty().await, House::empty().await);
    let (running, beside) = (start(&house).await, start(&other).await);
    let (event, others) = (completed_in("flow-same"), completed_in("flow-same"));
    house.send(&event).await;
    other.send(&others).await;
    for (running, event) in [(&running, &event), (&beside, &others)] {
        let shown = flow_with(running, "flow-same", |it| outcomes(it, "process").len() == 1).await;
        let ids = all(&shown, "steps", "process");
        assert_eq!(ids[0]["event_id"], event.envelope.id.as_str());
    }
    let instance = |flow: &Value| flow["steps"][0]["instance"].clone();
    let (one, two) = (flow(&running, "flow-same").await, flow(&beside, "flow-same").await);
    assert_ne!(instance(&one), instance(&two));
    assert!(running.shutdown().await && beside.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_steps_off_nothing_is_written_and_what_is_open_is_still_told() {
    testbed::traced("billing");
    let house = House::empty().await;
    let running = house.start_with(house.config().without_flow_steps()).await;
    set_fault(&running, Some(json!({ "kind": "permanent", "reason": "Tax rates are gone" }))).await;
    let event = completed_in("flow-off");
    house.send(&event).await;
    let dead = |it: &Value| !all(it, "open", "dead letter").is_empty();
    let shown = flow_with(&running, event.subject(), dead).await;
    assert_eq!((&shown["recording"], &shown["steps"]), (&false.into(), &json!([])));
    assert_eq!(shown["correlation_ids"], json!(["flow-off"]));
    assert_eq!(shown["service"], "billing");
    // Longer than steps wait to be written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from flow_step").fetch_one(&house.pool).await.unwrap();
    assert_eq!(rows, 0);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_outlast_a_database_that_is_unavailable() {
    let house = House::empty().await;
    let running = start(&house).await;
    house.space.set_read_only(true).await;
    let url = format!("http://{}/invoices?order_id={}", running.http, events::OrderId::new());
    let request = Client::new().get(url).bearer_auth("demo-acme");
    let answer = request.header("x-correlation-id", "flow-away").send().await.unwrap();
    let status = i64::from(answer.status().as_u16());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(flow(&running, "flow-away").await["steps"], json!([]));
    house.space.set_read_only(false).await;
    let shown =
        flow_with(&running, "flow-away", |it| !all(it, "steps", "request").is_empty()).await;
    assert_eq!(all(&shown, "steps", "request")[0]["status"], status);
    assert_eq!(shown["lost"], 0);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_steps_are_written_at_shutdown() {
    let house = House::empty().await;
    let running = start(&house).await;
    let url = format!("http://{}/invoices", running.http);
    let request = Client::new().get(url).bearer_auth("demo-acme");
    request.header("x-correlation-id", "flow-last").send().await.unwrap();
    assert!(running.shutdown().await);
    let steps: String = sqlx::query_scalar(
        "select string_agg(steps, ',') from flow_step where correlation_id = $1",
    )
    .bind("flow-last")
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(steps.contains("GET /invoices"), "{steps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_steps_are_pruned_and_the_others_stay() {
    let house = House::empty().await;
    let running = start(&house).await;
    let event = completed_in("flow-kept");
    house.send(&event).await;
    flow_with(&running, "flow-kept", |it| outcomes(it, "process").len() == 1).await;
    // The next slot holds day-old steps, and the current one has been open for four hours.
    for statement in [
        "insert into flow_step (slot, correlation_id, instance, keys, steps) values (1, 'old', 'x', '{old}', '{}')",
        "update flow_step_slot set opened_at = clock_timestamp() - interval '23 hours' where slot = 1",
        "update flow_step_slot set opened_at = clock_timestamp() - interval '4 hours' where slot = 0",
    ] {
        sqlx::query(statement).execute(&house.pool).await.unwrap();
    }
    let old = "select count(*) from flow_step where correlation_id = 'old'";
    let pruned = async || {
        let rows: i64 = sqlx::query_scalar(old).fetch_one(&house.pool).await.unwrap();
        (rows == 0).then_some(())
    };
    eventually("the oldest slot to be truncated", PATIENCE, pruned).await;
    house.send(&event).await;
    flow_with(&running, "flow-kept", |it| outcomes(it, "process").len() == 2).await;
    let slots: Vec<i16> = sqlx::query_scalar("select distinct slot from flow_step order by 1")
        .fetch_all(&house.pool)
        .await
        .unwrap();
    assert_eq!(slots, [0, 1]);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_recorded_while_a_backup_reads_them() {
    let house = House::empty().await;
    let running = start(&house).await;
    house.send(&completed_in("flow-before")).await;
    flow_with(&running, "flow-before", |it| outcomes(it, "process").len() == 1).await;
    let mut backup = PgConnection::connect(house.space.database_url()).await.unwrap();
    for statement in ["begin", "lock table flow_step in access share mode"] {
        sqlx::raw_sql(statement).execute(&mut backup).await.unwrap();
    }
    let old = "update flow_step_slot set opened_at = clock_timestamp() - interval '4 hours' where slot = 0";
    sqlx::query(old).execute(&house.pool).await.unwrap();
    // Until the slot is looked at, which can't be truncated now.
    tokio::time::sleep(Duration::from_secs(11)).await;
    house.send(&completed_in("flow-during")).await;
    flow_with(&running, "flow-during", |it| outcomes(it, "process").len() == 1).await;
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_steps_that_name_a_customer() {
    let house = House::empty().await;
    let running = start(&house).await;
    let reason = "no tax rate for\nAda@example.com";
    // As JSON shows it.
    let shown_reason = r"no tax rate for\nAda@example.com";
    set_fault(&running, Some(json!({ "kind": "permanent", "reason": reason }))).await;
    house.send(&completed_in("flow-named")).await;
    let named = flow_with(&running, "flow-named", |it| outcomes(it, "process").len() == 1).await;
    assert!(named["steps"].to_string().contains(shown_reason), "{named}");
    set_fault(&running, None).await;
    house.send(&completed_in("flow-unnamed")).await;
    flow_with(&running, "flow-unnamed", |it| outcomes(it, "process").len() == 1).await;

    // A shorter address is that of another customer.
    let body = json!({ "customer_email": "da@example.com" });
    let (status, erased) = ask(&running, Method::POST, "/erasures", Some(&body)).await;
    assert_eq!((status, &erased["letters"]), (200, &0.into()));
    assert!(flow(&running, "flow-named").await["steps"].to_string().contains(shown_reason));

    let body = json!({ "customer_email": "ada@example.com" });
    let (status, erased) = ask(&running, Method::POST, "/erasures", Some(&body)).await;
    assert_eq!((status, &erased["letters"]), (200, &1.into()));
    let shown = flow(&running, "flow-named").await;
    assert_eq!(entries(&shown, "steps"), [] as [&Value; 0]);
    assert!(!shown.to_string().to_lowercase().contains("ada@example.com"), "{shown}");
    assert_eq!(outcomes(&flow(&running, "flow-unnamed").await, "process"), ["processed"]);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_without_a_trace_is_told_from_one_that_is_none() {
    let house = House::empty().await;
    let running = start(&house).await;
    let unknown = flow(&running, "018f4e3a-0000-7000-8000-000000000001").await;
    for list in ["correlation_ids", "steps", "open", "inbox"] {
        assert_eq!(unknown[list], json!([]), "{list}");
    }
    assert_eq!((&unknown["recording"], &unknown["truncated"]), (&true.into(), &false.into()));
    assert!(unknown.get("unavailable").is_none(), "{unknown}");
    let now = unknown["now"].as_str().unwrap();
    assert_eq!((now.len(), &now[19..20], &now[26..]), (27, ".", "Z"), "microseconds: {now}");
    for id in ["%00", "a%00b", "%0a", "%1b%5b2J", "%ff", "", "%20", &"x".repeat(10_000)] {
        let (status, problem) = ask(&running, Method::GET, &format!("/flows/{id}"), None).await;
        assert_eq!(status, 400, "{id:.20}: {problem}");
    }
    for id in ["%25", "%5C", "'", "%22%7D", "%F0%9F%92%A9", "..%2F..%2Fx", "-1"] {
        assert_eq!(flow(&running, id).await["steps"], json!([]), "{id}");
    }
    let (status, _) = ask(&running, Method::GET, "/flows/x?event=1", None).await;
    assert_eq!(status, 400);
    let metrics = reqwest::get(format!("http://{}/metrics", running.admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for counter in ["flow_steps_lost_total", "flow_steps_recorded_total"] {
        assert!(metrics.lines().any(|line| line.starts_with(counter)), "{counter}");
    }
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_that_can_not_be_read_are_named_and_the_others_are_told() {
    let house = House::empty().await;
    let running = start(&house).await;
    house.send(&completed_in("flow-part")).await;
    flow_with(&running, "flow-part", |it| outcomes(it, "process").len() == 1).await;
    sqlx::query("alter table job rename to away").execute(&house.pool).await.unwrap();
    let shown = flow(&running, "flow-part").await;
    assert_eq!(outcomes(&shown, "process"), ["processed"]);
    let unavailable = shown["unavailable"].as_array().unwrap();
    assert_eq!(unavailable.len(), 1);
    assert!(unavailable[0].as_str().unwrap().starts_with("jobs: "), "{unavailable:?}");
}
