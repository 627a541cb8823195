//! Changes of letters: each request to the service is the intended one, and the page keeps its
//! place.

use serde_json::{Value, json};

use super::serve::{Serve, borrowed, form, has, lacks};
use crate::fake::{Fake, Known, OTHER_TOKEN, id, letter_of, replay_of};

const HERE: &str = "/failures?view=letters&group=billing&reason=x";

fn known() -> Known {
    let letters = (0..10).rev().map(|minute| letter_of("billing", minute, "dead")).collect();
    let mut rehearsal = replay_of("done", 10, &json!({ "processed": 10 }));
    rehearsal["rehearsal"] = json!(true);
    Known { letters, progress: [rehearsal].into(), ..Known::default() }
}

fn row(number: u32) -> String {
    format!("billing/{}/billing", id(number))
}

#[tokio::test]
async fn selected_letters_are_discarded_and_the_undo_restores_exactly_them() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let (one, two) = (row(1), row(2));
    let fields = [("letter", &*one), ("letter", &*two), ("why", "test orders"), ("back", HERE)];
    let (location, page) = operator.act("/failures/discard", &fields).await;
    assert_eq!(location, HERE);
    has(&page, &["2 letters discarded.", "Undo"]);
    let discarded = json!({ "group": "billing", "ids": [id(1), id(2)], "why": "test orders" });
    assert_eq!(fake.bodies("POST", "/dead-letters/discard"), [discarded]);

    let undo = form(&page, "/failures/restore", "id=\"said\"");
    let (location, _) = operator.act("/failures/restore", &borrowed(&undo)).await;
    assert_eq!(location, HERE);
    let restored = json!({ "group": "billing", "ids": [id(1), id(2)], "why": "undo: test orders" });
    assert_eq!(fake.bodies("POST", "/dead-letters/restore"), [restored]);
    lacks(&operator.page(HERE).await, &["2 letters discarded."]);
}

#[tokio::test]
async fn selected_letters_that_were_discarded_before_are_not_restored_by_an_undo() {
    let fake = Fake::start(Known { changes: Some(1), ..known() }).await;
    let serve = Serve::of(&fake).await;
    let (one, two) = (row(1), row(2));
    let fields = [("letter", &*one), ("letter", &*two), ("why", "w"), ("back", HERE)];
    let (_, page) = serve.operator().act("/failures/discard", &fields).await;
    has(&page, &["1 letter discarded."]);
    lacks(&page, &["Undo"]);
}

#[tokio::test]
async fn a_subscription_that_fails_stops_neither_the_change_of_another_nor_its_undo() {
    let (billing, analytics) = (Fake::start(known()).await, Fake::start(known()).await);
    analytics.known().refuses = Some((409, "the dead letter is being replayed"));
    let services = [("billing", billing.address), ("analytics", analytics.address)];
    let serve = Serve::start(&services).await;
    let mut operator = serve.operator();
    let (fails, succeeds) = (format!("analytics/{}/analytics", id(3)), row(1));
    let letters = [("letter", &*fails), ("letter", &*succeeds)];
    let fields = [&letters[..], &[("why", "test orders"), ("back", HERE)]].concat();
    let (_, page) = operator.act("/failures/rehearse", &letters).await;
    has(&page, &["1 rehearsal is requested. analytics: the dead letter is being replayed"]);
    let (_, page) = operator.act("/failures/discard", &fields).await;
    has(&page, &["class=\"notice bad\"", "1 letter of billing discarded."]);
    has(&page, &["analytics: the dead letter is being replayed"]);

    let undo = form(&page, "/failures/restore", "id=\"said\"");
    operator.act("/failures/restore", &borrowed(&undo)).await;
    let restored = json!({ "group": "billing", "ids": [id(1)], "why": "undo: test orders" });
    assert_eq!(billing.bodies("POST", "/dead-letters/restore"), [restored]);
    assert!(analytics.bodies("POST", "/dead-letters/restore").is_empty());
}

#[tokio::test]
async fn the_undo_of_a_pause_does_not_close_a_breaker_nor_end_another_pause() {
    let subscription = |paused: Value, opened_at: Value| {
        json!({
            "group": "billing", "state": "running", "event_types": [], "topics": [], "instances": [], "paused": paused,
            "breakers": [{ "event_type": "t", "reason": "r", "letters": 20, "opened_at": opened_at }],
        })
    };
    let paused = json!({ "by": "ada", "why": "w", "since": "2026-11-25T10:00:00Z" });
    for (paused, opened_at, can_be_undone) in [
        (Value::Null, Value::Null, true),
        (Value::Null, json!("2026-11-25T10:00:00Z"), false),
        (paused, Value::Null, false),
    ] {
        let before = vec![subscription(paused, opened_at)];
        let fake = Fake::start(Known { subscriptions: Some(before), ..known() }).await;
        let serve = Serve::of(&fake).await;
        let path = "/lag/billing/billing/pause";
        let (_, page) = serve.operator().act(path, &[("why", "w"), ("back", "/lag")]).await;
        has(&page, &["billing is paused"]);
        assert_eq!(page.contains("Undo"), can_be_undone);
    }
}

#[tokio::test]
async fn everything_that_matches_is_discarded_only_once_the_number_was_seen() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page(HERE).await;
    let fields = form(&page, "/failures/rehearse", "id=\"matching\"");
    let answer = operator.post("/failures/discard", &borrowed(&fields)).await;
    assert_eq!(answer.status, 200);
    has(&answer.body, &["Discard 10 dead letters of billing?", "<dt>reason</dt><dd>x</dd>"]);
    assert!(fake.bodies("POST", "/").is_empty());

    let mut fields = form(&answer.body, "/failures/discard", "Discard 10");
    fields.push(("why".into(), "test orders".into()));
    let (location, page) = operator.act("/failures/discard", &borrowed(&fields)).await;
    assert_eq!(location, HERE);
    // Letters that died after those that were counted are not discarded.
    let filter = json!({ "reason": "x", "to": "2026-11-25T10:09:00.000001Z" });
    let body = json!({ "group": "billing", "filter": filter, "why": "test orders" });
    assert_eq!(fake.bodies("POST", "/dead-letters/discard"), [body]);
    let undo = form(&page, "/failures/restore", "id=\"said\"");
    operator.act("/failures/restore", &borrowed(&undo)).await;
    let restored = json!({
        "group": "billing", "why": "undo: test orders",
        "filter": { "reason": "x", "status": "discarded", "to": "2026-11-25T10:09:00.000001Z" },
    });
    assert_eq!(fake.bodies("POST", "/dead-letters/restore"), [restored]);
}

#[tokio::test]
async fn who_forgets_the_reason_is_asked_for_it_and_the_selection_stays() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let (one, two) = (row(1), row(2));
    let fields = [("letter", &*one), ("letter", &*two), ("why", " "), ("back", HERE)];
    let answer = operator.post("/failures/discard", &fields).await;
    assert_eq!(answer.status, 200);
    has(&answer.body, &["Discard 2 dead letters of billing?"]);
    assert!(fake.bodies("POST", "/").is_empty());
    let mut fields = form(&answer.body, "/failures/discard", "Discard 2");
    fields.push(("why".into(), "w".into()));
    let (location, _) = operator.act("/failures/discard", &borrowed(&fields)).await;
    assert_eq!(location, HERE);
    assert_eq!(fake.bodies("POST", "/dead-letters/discard")[0]["ids"], json!([id(1), id(2)]));
}

/// An undo by the filter would restore letters that were discarded before.
#[tokio::test]
async fn there_is_no_undo_that_would_change_other_letters() {
    let mut known = known();
    known.letters.push(letter_of("billing", 50, "discarded"));
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    // The filter's status does not exclude letters that had the other status before.
    for (act, status, did) in [
        ("discard", None, "discarded"),
        ("discard", Some("dead"), "discarded"),
        ("restore", Some("discarded"), "restored"),
    ] {
        let mut fields = vec![("scope", "all"), ("group", "billing"), ("confirmed", "yes")];
        fields.extend([("why", "w"), ("back", HERE)]);
        fields.extend(status.map(|status| ("status", status)));
        let (_, page) = serve.operator().act(&format!("/failures/{act}"), &fields).await;
        has(&page, &[&format!("7 letters {did}.")]);
        lacks(&page, &["Undo"]);
    }
}

#[tokio::test]
async fn discarded_letters_are_restored() {
    let mut known = known();
    known.letters.push(letter_of("billing", 50, "discarded"));
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let here = "/failures?view=letters&status=discarded";
    let page = operator.page(here).await;
    has(&page, &[&id(50), "formaction=\"/failures/restore\""]);
    lacks(&page, &["formaction=\"/failures/discard\"", "Rehearse"]);
    let (location, page) = operator
        .act("/failures/restore", &[("letter", &row(50)), ("why", "w"), ("back", here)])
        .await;
    assert_eq!(location, here);
    has(&page, &["1 letter restored."]);
    assert_eq!(fake.bodies("POST", "/dead-letters/restore")[0]["ids"], json!([id(50)]));
}

#[tokio::test]
async fn an_act_that_is_refused_leads_back_and_says_why() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let one = row(1);
    for (path, fields, expected) in [
        ("/failures/rehearse", vec![], "Nothing is selected."),
        ("/failures/rehearse", vec![("letter", "billing/7/billing")], "has no letter"),
        ("/failures/rehearse", vec![("scope", "all")], "Choose a subscription"),
        ("/failures/rehearse", vec![("letter", &*one), ("from", "soon")], "from: "),
        (
            "/failures/groups",
            vec![("service", "billing"), ("fingerprint", "f"), ("status", "gone")],
            "status: ",
        ),
        (
            "/failures/groups",
            vec![("service", "billing"), ("fingerprint", "f"), ("status", "open")],
            "no dead letters of that",
        ),
    ] {
        let fields = [fields, vec![("back", HERE)]].concat();
        let (location, page) = operator.act(path, &fields).await;
        assert_eq!(location, HERE, "{path}");
        has(&page, &["class=\"notice bad\"", expected]);
    }
    fake.known().refuses = Some((409, "the dead letter <b>1</b>\u{1b} is resolved"));
    let (_, page) = operator.act("/failures/rehearse", &[("letter", &one), ("back", HERE)]).await;
    has(&page, &["the dead letter &#60;b&#62;1&#60;/b&#62;\\x1b is resolved"]);
    for back in ["//evil.example", "https://evil.example/", "/\\evil"] {
        let answer = operator.post("/failures/rehearse", &[("back", back)]).await;
        assert_eq!(answer.location.as_deref(), Some("/failures"), "{back}");
        assert!(answer.has_cookie());
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_named_and_the_page_stays() {
    let mut fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    fake.stop().await;
    let (location, page) =
        serve.operator().act("/failures/rehearse", &[("letter", &row(1)), ("back", HERE)]).await;
    assert_eq!(location, HERE);
    has(&page, &["billing does not answer", "It is unknown whether it was started"]);
}

#[tokio::test]
async fn acts_carry_the_operators_own_token() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let fields = [("letter", row(1)), ("why", "w".into())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    serve.operator_with(OTHER_TOKEN).act("/failures/discard", &fields).await;
    serve.operator().act("/failures/discard", &fields).await;
    assert_eq!(fake.known().tokens, [OTHER_TOKEN, "secret"]);
    let (_, page) = serve.operator_with("wrong").act("/failures/discard", &fields).await;
    has(&page, &["billing does not know your token"]);
    assert_eq!(fake.bodies("POST", "/dead-letters/discard").len(), 2);
}

#[tokio::test]
async fn of_two_operators_who_act_at_once_the_second_learns_what_happened() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let (mut ada, mut bob) = (serve.operator(), serve.operator_with(OTHER_TOKEN));
    let rehearsal = format!("/replays/billing/{}", id(99));
    fake.known().replayed = vec![json!({ "id": id(1), "outcome": "processed" })];
    has(&ada.page(&rehearsal).await, &["Start the replay"]);
    has(&bob.page(&rehearsal).await, &["Start the replay"]);
    let start = format!("{rehearsal}/start");
    let fields = [("why", "fixed")];
    assert_eq!(ada.post(&start, &fields).await.status, 303);
    fake.known().refuses = Some((409, "the dead letter 1 is being replayed"));
    let (location, page) = bob.act(&start, &fields).await;
    assert_eq!(location, rehearsal);
    has(&page, &["the dead letter 1 is being replayed", "class=\"notice bad\""]);
    assert_eq!(fake.known().tokens, ["secret", OTHER_TOKEN]);
    let bodies: Vec<Value> = fake.bodies("POST", "/replays");
    assert_eq!(bodies[0], bodies[1]);
}
