//! Dead letters and replays on the admin port, and the acts that are recorded for them.

use std::collections::HashSet;

use chassis::RunningService;
use reqwest::{Client, Method};
use sandbox::testing::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::{House, PATIENCE, completed, completed_with};

/// The admin port of a service, and an operator's token.
struct Admin<'a> {
    running: &'a RunningService,
    token: &'static str,
}

impl Admin<'_> {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.running.admin);
        let mut request = Client::new().request(method, url).bearer_auth(self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// Returns the letters of a query, newest first.
    async fn letters(&self, query: &str) -> Vec<Value> {
        let page = self.get(&format!("/dead-letters?{query}")).await;
        page["dead_letters"].as_array().unwrap().clone()
    }

    /// Waits until there are that many letters, and returns them.
    async fn dead(&self, count: usize) -> Vec<Value> {
        let found = async || Some(self.letters("").await).filter(|all| all.len() == count);
        eventually(&format!("{count} dead letters"), PATIENCE, found).await
    }

    /// Makes every attempt fail permanently, or ends that.
    async fn break_handler(&self, broken: bool) {
        let fault = broken.then(|| json!({ "kind": "permanent", "reason": "Tax rates are gone" }));
        let body = json!({ "subscription": "billing", "fault": fault });
        assert_eq!(self.put("/faults", &body).await.0, 204);
    }

    /// Makes completed orders of these tenants dead letters, and returns those, newest first.
    async fn bury(&self, house: &House, tenants: &[&str]) -> Vec<Value> {
        self.break_handler(true).await;
        for tenant in tenants {
            house.send(&completed(tenant)).await;
        }
        self.dead(tenants.len()).await
    }

    /// Waits until a replay has that status, and returns it.
    async fn replay(&self, id: &Value, status: &str) -> Value {
        let path = format!("/replays/{}", id.as_str().unwrap());
        let found = async || Some(self.get(&path).await).filter(|it| it["status"] == status);
        eventually(&format!("the replay to be {status}"), PATIENCE, found).await
    }

    /// Returns operator, kind, reason and outcome of the last acts, newest first.
    async fn acts(&self, query: &str) -> Vec<[String; 4]> {
        let acts = self.get(&format!("/acts?{query}")).await;
        let text = |act: &Value, name: &str| act[name].as_str().unwrap_or("-").to_owned();
        let acts = acts["acts"].as_array().unwrap().iter();
        acts.map(|act| ["by", "act", "why", "outcome"].map(|name| text(act, name))).collect()
    }
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

async fn start(house: &House) -> RunningService {
    house.start_with(house.config().operator_tokens("ada=engine,grace=compiler")).await
}

#[tokio::test]
async fn letters_are_found_by_every_name() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let all = admin.bury(&house, &["acme", "globex", "acme", "acme", "globex"]).await;
    let (newest, text) = (&all[0], |name: &str| all[0][name].as_str().unwrap());
    assert_eq!((&newest["group"], &newest["status"]), (&"billing".into(), &"dead".into()));
    assert!(text("reason").contains("Tax rates are gone"), "{newest}");
    let stranger = Admin { running: &running, token: "a stranger's" };
    let groups = stranger.get("/dead-letters/groups").await["groups"].as_array().unwrap().clone();
    for shown in stranger.letters("").await.iter().chain(&groups) {
        assert_eq!(shown["reason"], "(the operator's token shows it)", "{shown}");
    }
    let url = format!("http://{}/dead-letters?reason=tax", running.admin);
    let probe = reqwest::get(url).await.unwrap();
    assert_eq!(probe.status(), 401);
    assert!(probe.headers().contains_key("www-authenticate"));
    assert!(probe.text().await.unwrap().contains("leave reason out"));
    for (query, count) in [
        ("group=billing".to_owned(), 5),
        ("group=other".to_owned(), 0),
        ("status=dead".to_owned(), 5),
        ("status=resolved".to_owned(), 0),
        ("type=order.completed".to_owned(), 5),
        ("type=order.created".to_owned(), 0),
        ("reason=tax%20RATES".to_owned(), 5),
        ("reason=tariffs".to_owned(), 0),
        (format!("fingerprint={}", text("fingerprint")), 5),
        ("fingerprint=0".to_owned(), 0),
        ("tenant=globex".to_owned(), 2),
        ("tenant=globex%00".to_owned(), 0),
        (format!("subject={}", text("subject")), 1),
        ("correlation_id=flow-17".to_owned(), 5),
        ("correlation_id=flow-18".to_owned(), 0),
        (format!("event_id={}", text("event_id")), 1),
        ("from=2020-01-01T00:00:00Z&to=2999-01-01T00:00:00Z".to_owned(), 5),
        ("group=billing&tenant=globex&status=dead&type=order.completed&reason=tax".to_owned(), 2),
    ] {
        assert_eq!(admin.letters(&query).await.len(), count, "{query}");
    }
    let since = admin.letters(&format!("from={}", text("died_at"))).await;
    let before = admin.letters(&format!("to={}", text("died_at"))).await;
    assert!(since.contains(newest) && !before.contains(newest));
    assert_eq!(since.len() + before.len(), 5);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn letters_are_paged_to_the_end_and_a_query_that_is_malformed_is_refused() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let all = admin.bury(&house, &["acme"; 7]).await;
    let (mut cursor, mut paged, mut sizes) = (String::new(), Vec::new(), Vec::new());
    loop {
        let page = admin.get(&format!("/dead-letters?limit=3{cursor}")).await;
        let letters = page["dead_letters"].as_array().unwrap();
        sizes.push(letters.len());
        paged.extend(letters.clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((sizes, paged), (vec![3, 3, 1], all));

    let (letters, groups, replays) = ("/dead-letters", "/dead-letters/groups", "/replays");
    let all = vec![letters, groups, replays, "/acts"];
    for (query, name, lists) in [
        ("status=dying", "status", vec![letters]),
        ("from=yesterday", "from", vec![letters]),
        ("to=2026-13-01T00:00:00Z", "to", vec![letters]),
        ("group=%00", "group", vec![letters, groups, replays]),
        ("by=%00", "by", vec!["/acts"]),
        ("limit=0", "limit", all.clone()),
        ("limit=1001", "limit", all.clone()),
        ("limit=x", "limit", all.clone()),
        ("cursor=x", "cursor", all.clone()),
        ("colour=red", "colour", all),
    ] {
        for list in lists {
            let (status, problem) = admin.ask(Method::GET, &format!("{list}?{query}"), None).await;
            assert_eq!(status, 400, "{list}?{query}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(name), "{query}: {problem}");
        }
    }
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn only_an_operator_sees_payloads_and_changes_something() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let before = admin.bury(&house, &["acme"]).await;
    let (letter, why) = (format!("/dead-letters/{}", id(&before[0])), json!({ "why": "a look" }));
    let chosen = json!({ "group": "billing", "ids": [id(&before[0])], "why": "a look" });
    let replay = format!("/replays/{}", Uuid::nil());
    let (payload, pause) = (format!("{letter}/payload"), format!("{replay}/pause"));
    let (resume, cancel) = (format!("{replay}/resume"), format!("{replay}/cancel"));
    let erasure = json!({ "customer_email": "nobody@example.com" });
    let acts = admin.acts("").await;
    let stranger = Admin { running: &running, token: "nobody" };
    for (method, path, body) in [
        (Method::GET, &*letter, None),
        (Method::PUT, &payload, Some(json!({ "value": {}, "why": "a look" }))),
        (Method::PUT, "/dead-letters/groups/0", Some(json!({ "status": "ignored" }))),
        (Method::POST, "/dead-letters/discard", Some(chosen.clone())),
        (Method::POST, "/dead-letters/restore", Some(chosen.clone())),
        (Method::POST, "/replays", Some(chosen.clone())),
        (Method::POST, &pause, Some(why.clone())),
        (Method::POST, &resume, Some(why.clone())),
        (Method::POST, &cancel, Some(why)),
        (Method::POST, "/erasures", Some(erasure)),
    ] {
        let (status, problem) = stranger.ask(method, path, body.as_ref()).await;
        assert_eq!((status, &problem["status"]), (401, &401.into()), "{path}: {problem}");
    }
    let mut unchanged = stranger.letters("").await;
    unchanged[0]["reason"] = before[0]["reason"].clone();
    assert_eq!(unchanged, before);
    assert_eq!(stranger.acts("").await, acts);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn a_selection_that_is_malformed_unknown_or_empty_changes_nothing() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let before = admin.bury(&house, &["acme"]).await;
    let (known, unknown) = (id(&before[0]), Uuid::nil());
    let with = |name: &str, value: Value| {
        let mut body = json!({ "group": "billing", "ids": [known], "why": "a look" });
        body[name] = value;
        body
    };
    let found = |filter: Value| json!({ "group": "billing", "filter": filter, "why": "a look" });
    for path in ["/dead-letters/discard", "/dead-letters/restore", "/replays"] {
        for (body, expected, reason) in [
            (with("group", "other".into()), 404, "no subscription other; there are: billing"),
            (with("ids", json!([known, unknown])), 404, &*unknown.to_string()),
            (with("ids", vec![unknown.to_string(); 10_000].into()), 404, "no dead letter"),
            (with("ids", json!([])), 409, "ids must list at least one letter"),
            (found(json!({ "tenant": "initech" })), 409, ""),
            (found(json!({ "colour": "red" })), 422, "colour"),
            (found(json!({ "status": "dying" })), 422, "filter.status"),
            (found(json!({ "from": "yesterday" })), 422, "filter.from"),
            (with("filter", json!({})), 422, "give either ids or filter"),
            (json!({ "group": "billing", "why": "a look" }), 422, "give either ids or filter"),
            (json!({ "group": "billing", "filter": {} }), 422, "why"),
            (with("why", " ".into()), 422, "why"),
            (with("why", "a\0b".into()), 422, "why"),
            (with("why", "x".repeat(501).into()), 422, "why"),
            (with("group", "a\0b".into()), 422, "group"),
            (with("ids", json!(["1"])), 422, "ids[0]"),
            (with("colour", "red".into()), 422, "colour"),
        ] {
            let (status, problem) = admin.post(path, &body).await;
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(status, expected, "{path}, {reason}: {detail}");
            assert!(detail.contains(reason), "{path}, {reason}: {detail}");
        }
    }
    assert_eq!(admin.letters("").await, before);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn what_can_not_be_done_is_refused_and_the_acts_say_so() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let before = admin.bury(&house, &["acme"]).await;
    let (known, unknown) = (id(&before[0]), Uuid::nil());
    let chosen = |name: &str, value: Value| {
        let mut body = json!({ "group": "billing", "ids": [known], "why": "a look" });
        body[name] = value;
        Some(body)
    };
    let why = || Some(json!({ "why": "a look" }));
    let (edit, group) = (json!({ "value": {}, "why": "a" }), "/dead-letters/groups/0".to_owned());
    let payload = |id: &str| format!("/dead-letters/{id}/payload");
    let replay = |rest: &str| format!("/replays/{unknown}{rest}");
    for (method, path, body, expected) in [
        (Method::POST, "/dead-letters/restore".to_owned(), chosen("why", "a".into()), 409),
        (Method::POST, "/replays".to_owned(), chosen("rate", 0.into()), 422),
        (Method::POST, "/replays".to_owned(), chosen("rate", "fast".into()), 422),
        (Method::POST, "/replays".to_owned(), chosen("stop_after", 0.into()), 422),
        (Method::POST, "/replays".to_owned(), chosen("stop_after", (-1).into()), 422),
        (Method::POST, "/replays".to_owned(), None, 415),
        (Method::PUT, payload(known), Some(edit.clone()), 422),
        (Method::PUT, payload(known), why(), 422),
        (Method::PUT, payload(&unknown.to_string()), Some(edit), 404),
        (Method::PUT, group.clone(), Some(json!({ "status": "ignored" })), 404),
        (Method::PUT, group.clone(), Some(json!({ "status": "ignored", "note": "" })), 422),
        (Method::PUT, group, Some(json!({ "status": "lost" })), 422),
        (Method::GET, format!("/dead-letters/{unknown}"), None, 404),
        (Method::GET, "/dead-letters/1".to_owned(), None, 404),
        (Method::GET, replay(""), None, 404),
        (Method::GET, replay("/letters"), None, 404),
        (Method::GET, replay("/letters?outcome=lost"), None, 400),
        (Method::POST, replay("/pause"), why(), 404),
        (Method::POST, replay("/resume"), why(), 404),
        (Method::POST, replay("/cancel"), why(), 404),
        (Method::POST, replay("/cancel"), Some(json!({})), 422),
        (Method::DELETE, "/dead-letters".to_owned(), None, 405),
        (Method::POST, "/erasures".to_owned(), Some(json!({ "customer_email": "a" })), 422),
        (Method::POST, "/subscriptions/other%00/drop".to_owned(), why(), 404),
        (Method::POST, format!("/jobs/{unknown}/retry"), None, 404),
        (Method::DELETE, format!("/jobs/{unknown}"), None, 404),
    ] {
        let (status, problem) = admin.ask(method, &path, body.as_ref()).await;
        assert_eq!((status, &problem["status"]), (expected, &expected.into()), "{path} {body:?}");
    }
    assert_eq!(admin.letters("").await, before);
    let acts = admin.acts("by=ada").await;
    assert!(acts[0][3].starts_with("refused: there is no job"), "{acts:?}");
    assert!(acts.iter().all(|[_, act, _, it]| act == "fault.set" || it.starts_with("refused: ")));
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn letters_are_discarded_and_restored_and_the_acts_say_by_whom() {
    let house = House::empty().await;
    let running = start(&house).await;
    let ada = Admin { running: &running, token: "engine" };
    let grace = Admin { running: &running, token: "compiler" };
    let letters = ada.bury(&house, &["acme", "globex", "acme"]).await;
    let one = json!({ "group": "billing", "ids": [id(&letters[0])], "why": "a test order" });
    let rest = json!({ "group": "billing", "filter": { "status": "dead" }, "why": "noise" });

    assert_eq!(ada.post("/dead-letters/discard", &one).await, (200, json!({ "letters": 1 })));
    assert_eq!(grace.post("/dead-letters/discard", &rest).await, (200, json!({ "letters": 2 })));
    assert_eq!(ada.post("/dead-letters/discard", &one).await.0, 409);
    let discarded = ada.letters("status=discarded").await;
    assert!(discarded.len() == 3 && discarded.iter().all(|it| it["closed_at"].is_string()));
    assert_eq!(ada.post("/dead-letters/restore", &one).await, (200, json!({ "letters": 1 })));
    assert_eq!(ada.letters("status=dead").await.len(), 1);

    let fingerprint = letters[0]["fingerprint"].as_str().unwrap();
    let path = format!("/dead-letters/groups/{fingerprint}");
    let set = json!({ "status": "acknowledged", "note": "the rates come back at noon" });
    let (status, group) = grace.put(&path, &set).await;
    assert_eq!((status, &group["status"], &group["by"]), (200, &set["status"], &"grace".into()));
    assert_eq!(ada.get("/dead-letters/groups?group=billing").await["groups"], json!([group]));
    assert_eq!(ada.get("/dead-letters/groups?group=other").await["groups"], json!([]));

    let pause = json!({ "why": "until noon" });
    assert_eq!(grace.post("/subscriptions/billing/pause", &pause).await.0, 200);
    assert_eq!(grace.post("/subscriptions/billing/resume", &pause).await.0, 200);
    let refused = "refused: none of these letters is dead or parked";
    let expected = [
        ["grace", "subscription.resume", "until noon", "resumed"],
        ["grace", "subscription.pause", "until noon", "paused"],
        ["grace", "dead-letters.group", "the rates come back at noon", "acknowledged"],
        ["ada", "dead-letters.restore", "a test order", "1 letter"],
        ["ada", "dead-letters.discard", "a test order", refused],
        ["grace", "dead-letters.discard", "noise", "2 letters"],
        ["ada", "dead-letters.discard", "a test order", "1 letter"],
    ];
    let acts = ada.acts("limit=7").await;
    assert_eq!(acts, expected.map(|act| act.map(str::to_owned)));
    let by_grace = ada.acts("by=grace").await;
    assert!(by_grace.len() == 4 && by_grace.iter().all(|[by, ..]| by == "grace"), "{by_grace:?}");
    let first = ada.get("/acts?limit=2").await;
    assert_eq!(first["acts"][0]["target"], "billing");
    let next = first["next_cursor"].as_str().unwrap();
    let second = ada.get(&format!("/acts?limit=1000&cursor={next}")).await;
    assert_eq!(
        (second["acts"].as_array().unwrap().len(), &second["next_cursor"]),
        (6, &Value::Null)
    );
    assert_eq!(second["acts"][3]["target"], r#"billing: {"status":"dead"}"#);
    let ids = [&first, &second].map(|page| page["acts"].as_array().unwrap().clone()).concat();
    assert_eq!(ids.iter().map(|act| act["id"].as_i64()).collect::<HashSet<_>>().len(), 8);
    assert!(running.shutdown().await);
}

/// Creates a dead letter that billing refuses until its data is edited. Returns it with the
/// corrected data.
async fn bury_malformed(house: &House, admin: &Admin<'_>) -> (Value, Value) {
    let mut event = completed("acme");
    let mut data: Value = serde_json::from_slice(&event.data).unwrap();
    data["customer_email"] = "nobody".into();
    event.data = serde_json::to_vec(&data).unwrap();
    house.send(&event).await;
    data["customer_email"] = "ada@example.com".into();
    (admin.dead(1).await.remove(0), data)
}

#[tokio::test]
async fn a_letter_is_edited_only_as_its_schema_allows() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let (letter, mended) = bury_malformed(&house, &admin).await;
    let path = format!("/dead-letters/{}", id(&letter));
    let before = admin.get(&path).await;
    assert!(before["value"]["text"].as_str().unwrap().contains("nobody"), "{before}");
    assert_eq!(before["edit"], Value::Null);

    let edit = async |value: &Value| {
        let body = json!({ "value": value, "why": "a typo" });
        admin.put(&format!("{path}/payload"), &body).await
    };
    let (status, problem) = edit(&json!({ "order_id": 1 })).await;
    assert!(status == 422 && problem["detail"].to_string().contains("order_id"), "{problem}");
    assert_eq!(edit(&Value::Null).await.0, 422);
    assert_eq!(admin.get(&path).await, before, "nothing has changed");
    let (status, edited) = edit(&mended).await;
    assert_eq!((status, &edited["edit"]["before"]), (200, &before["value"]), "{edited}");
    assert_eq!((&edited["edit"]["by"], &edited["is_edited"]), (&"ada".into(), &true.into()));
    assert_eq!(admin.get(&path).await, edited);

    let acts = admin.acts("").await;
    assert_eq!(acts[0], ["ada", "dead-letters.edit", "a typo", "edited"]);
    assert!(acts[1][3].starts_with("refused: value: "), "{acts:?}");
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn a_letter_that_was_edited_is_rehearsed_and_replayed_and_then_is_resolved() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let (letter, mended) = bury_malformed(&house, &admin).await;
    let payload = format!("/dead-letters/{}/payload", id(&letter));
    let edit = json!({ "value": mended, "why": "a typo" });
    assert_eq!(admin.put(&payload, &edit).await.0, 200);

    let mut body = json!({ "group": "billing", "ids": [id(&letter)] });
    let (status, problem) = admin.post("/replays", &body).await;
    assert!(status == 422 && problem["detail"].to_string().contains("why"), "{problem}");
    body["rehearse"] = true.into();
    let (status, rehearsal) = admin.post("/replays", &body).await;
    assert_eq!((status, &rehearsal["rehearsal"]), (201, &true.into()));
    let rehearsed = admin.replay(&rehearsal["id"], "done").await;
    assert_eq!(
        (&rehearsed["selected"], &rehearsed["outcomes"]["processed"]),
        (&1.into(), &1.into())
    );
    assert_eq!(rehearsed["failures"], json!([]));
    assert!(house.invoices().await.is_empty());

    let body = json!({ "group": "billing", "ids": [id(&letter)], "why": "mended" });
    let (status, replayed) = admin.post("/replays", &body).await;
    assert_eq!((status, &replayed["by"], &replayed["why"]), (201, &"ada".into(), &body["why"]));
    let done = admin.replay(&replayed["id"], "done").await;
    assert_eq!(done["outcomes"]["processed"], 1, "{done}");
    house.invoiced(1).await;
    assert_eq!(admin.letters("status=resolved").await[0]["outcome"], "processed");
    let (status, problem) = admin.post("/replays", &body).await;
    assert!(status == 409 && problem["detail"].to_string().contains("is resolved"), "{problem}");
    assert_eq!(admin.put(&payload, &edit).await.0, 409);

    let letters = format!("/replays/{}/letters?outcome=", id(&replayed));
    let processed = admin.get(&format!("{letters}processed")).await;
    assert_eq!(processed["letters"][0]["id"], letter["id"]);
    assert_eq!(admin.get(&format!("{letters}failed")).await["letters"], json!([]));
    let page = admin.get("/replays?group=billing&limit=1").await;
    assert_eq!(page["replays"][0]["id"], replayed["id"]);
    let next = page["next_cursor"].as_str().unwrap();
    let page = admin.get(&format!("/replays?limit=1&cursor={next}")).await;
    assert_eq!((&page["replays"][0]["id"], &page["next_cursor"]), (&rehearsal["id"], &Value::Null));

    let outcome = |replay: &Value| format!("replay {} of 1 letter", id(replay));
    let acts = admin.acts("").await;
    assert_eq!(acts[2], ["ada", "replay.start", "mended", &outcome(&replayed)]);
    assert_eq!(acts[3], ["ada", "replay.rehearse", "-", &outcome(&rehearsal)]);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_cancelled() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let letters = admin.bury(&house, &["acme"; 3]).await;
    admin.break_handler(false).await;
    let mut body = json!({ "group": "billing", "filter": {}, "rate": 0.01, "why": "healed" });
    let (status, replay) = admin.post("/replays", &body).await;
    assert_eq!((status, &replay["selected"], &replay["rate"]), (201, &3.into(), &0.01.into()));

    // The next letter's turn comes only after minutes.
    let ids = json!({ "group": "billing", "ids": [id(&letters[0])], "why": "healed" });
    let (status, problem) = admin.post("/replays", &ids).await;
    assert!(status == 409 && problem["detail"].to_string().contains("being replayed"), "{problem}");
    let (status, problem) = admin.post("/replays", &body).await;
    assert!(status == 409 && problem["detail"].to_string().contains("nothing"), "{problem}");
    assert_eq!(admin.post("/dead-letters/discard", &ids).await.0, 409);

    let path = |verb: &str| format!("/replays/{}/{verb}", id(&replay));
    let why = json!({ "why": "lunch" });
    let (status, paused) = admin.post(&path("pause"), &why).await;
    assert_eq!(
        (status, &paused["status"], &paused["note"]),
        (200, &"paused".into(), &"paused by ada".into())
    );
    assert_eq!(admin.post(&path("pause"), &why).await.0, 409);
    let (status, resumed) = admin.post(&path("resume"), &why).await;
    assert_eq!((status, &resumed["note"]), (200, &Value::Null));
    assert_eq!(admin.post(&path("resume"), &why).await.0, 409);
    let (status, cancelled) = admin.post(&path("cancel"), &why).await;
    assert_eq!((status, &cancelled["status"]), (200, &"cancelled".into()));
    for verb in ["pause", "resume", "cancel"] {
        assert_eq!(admin.post(&path(verb), &why).await.0, 409, "{verb}");
    }
    assert!(admin.letters("status=replaying").await.is_empty());
    assert!(admin.letters("status=dead").await.len() >= 2);

    body["rate"] = Value::Null;
    let (status, replay) = admin.post("/replays", &body).await;
    assert_eq!(status, 201);
    admin.replay(&replay["id"], "done").await;
    assert_eq!(admin.letters("status=resolved").await.len(), 3);
    house.invoiced(3).await;
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn an_act_is_recorded_before_it_is_done_and_done_only_if_recorded() {
    let house = House::empty().await;
    let running = start(&house).await;
    let ada = Admin { running: &running, token: "engine" };
    ada.bury(&house, &["acme"]).await;
    let body = json!({ "group": "billing", "filter": {}, "why": "noise" });

    let no_grace = "alter table act add constraint no_grace check (by <> 'grace')";
    sqlx::query(no_grace).execute(&house.pool).await.unwrap();
    let grace = Admin { running: &running, token: "compiler" };
    assert_eq!(grace.post("/dead-letters/discard", &body).await.0, 503);
    assert_eq!(ada.letters("status=dead").await.len(), 1);

    let mut tx = house.pool.begin().await.unwrap();
    let lock = "lock table dead_letter in share mode";
    sqlx::query(lock).execute(&mut *tx).await.unwrap();
    let outcome = async |expected: &str| {
        let acts = ada.acts("limit=1").await;
        (acts[0] == ["ada", "dead-letters.discard", "noise", expected]).then_some(())
    };
    // The caller disconnects as soon as the act is recorded, while it waits for the lock.
    tokio::select! {
        answer = ada.post("/dead-letters/discard", &body) => panic!("{answer:?}"),
        () = eventually("the act to be recorded", PATIENCE, async || outcome("-").await) => {}
    }
    tx.rollback().await.unwrap();
    eventually("the act to be done", PATIENCE, async || outcome("1 letter").await).await;
    assert_eq!(ada.letters("status=discarded").await.len(), 1);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn an_erasure_reaches_letters_and_acts_and_no_other_customer() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    admin.break_handler(true).await;
    for email in ["grace@example.com", "alan@example.com"] {
        house.send(&completed_with("acme", |it| it.order.customer_email = email.into())).await;
    }
    admin.dead(2).await;
    let why = "grace@example.com asked for it";
    let body = json!({ "group": "billing", "filter": { "reason": "tariffs" }, "why": why });
    assert_eq!(admin.post("/dead-letters/discard", &body).await.0, 409);

    let erasure = json!({ "customer_email": "grace@example.com" });
    assert_eq!(admin.post("/erasures", &erasure).await, (200, json!({ "letters": 1 })));
    assert_eq!(admin.post("/erasures", &erasure).await, (200, json!({ "letters": 0 })));
    let letters = admin.letters("").await;
    assert_eq!(letters.iter().filter(|it| it["reason"] == "erased").count(), 1, "{letters:?}");
    for letter in &letters {
        let shown = admin.get(&format!("/dead-letters/{}", id(letter))).await.to_string();
        assert!(!shown.contains("grace@example.com"), "{shown}");
        assert_eq!(shown.contains("alan@example.com"), letter["reason"] != "erased");
    }
    let acts = admin.get("/acts").await;
    assert!(!acts.to_string().contains("grace@example.com"), "{acts}");
    assert_eq!(acts["acts"][2]["why"], "(erased) asked for it");
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn where_nothing_is_subscribed_letters_are_listed_and_not_replayed() {
    let house = House::empty().await;
    let running = start(&house).await;
    let admin = Admin { running: &running, token: "engine" };
    let letters = admin.bury(&house, &["acme"]).await;
    assert!(running.shutdown().await);

    let config = house.config().operator_tokens("ada=engine").unsubscribed();
    let running = house.start_with(config).await;
    let admin = Admin { running: &running, token: "engine" };
    assert_eq!(admin.dead(1).await, letters);
    let body = json!({ "group": "billing", "ids": [id(&letters[0])], "why": "healed" });
    let edit = json!({ "value": {}, "why": "healed" });
    let edit_path = format!("/dead-letters/{}/payload", id(&letters[0]));
    let off = "billing consumes nothing here (SUBSCRIBE=off), so its letters can't be replayed or \
               edited";
    let answers = [admin.post("/replays", &body).await, admin.put(&edit_path, &edit).await];
    for (status, problem) in answers {
        assert_eq!((status, &problem["detail"]), (409, &off.into()), "{problem}");
    }
    let other = json!({ "group": "other", "ids": [id(&letters[0])], "why": "healed" });
    assert_eq!(admin.post("/replays", &other).await.0, 404);
    assert_eq!(admin.post("/dead-letters/discard", &body).await.0, 200);
    assert!(running.shutdown().await);
}
