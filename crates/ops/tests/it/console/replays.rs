//! Rehearsal, then replay.

use serde_json::{Value, json};

use super::serve::{Serve, borrowed, form, has, lacks, link};
use crate::fake::{Fake, Known, id, letter_of, replay_of};

fn rehearsal_of(status: &str, selected: u64, outcomes: &Value) -> Value {
    let mut rehearsal = replay_of(status, selected, outcomes);
    rehearsal["rehearsal"] = json!(true);
    rehearsal
}

fn known(progress: Value) -> Known {
    let letters = (0..30).rev().map(|minute| letter_of("billing", minute, "dead")).collect();
    Known { letters, progress: [progress].into(), ..Known::default() }
}

fn replayed(number: u32, outcome: &str) -> Value {
    json!({
        "id": id(number), "event_id": "e", "subject": null, "outcome": outcome, "reason": null, "settled_at": null,
    })
}

fn page_of() -> String {
    format!("/replays/billing/{}", id(99))
}

#[tokio::test]
async fn what_a_filter_matches_is_rehearsed_and_then_replayed_as_it_was_rehearsed() {
    let outcomes = json!({ "processed": 20, "duplicate": 6, "failed": 4 });
    let mut rehearsal = rehearsal_of("done", 30, &outcomes);
    rehearsal["failures"] = json!([{ "reason": "no rate for <NOK>", "letters": 4 }]);
    let mut known = known(rehearsal);
    known.replayed = (0..2).map(|number| replayed(number, "processed")).collect();
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator
        .page("/failures?view=letters&group=billing&type=order.completed&from=2026-11-25T09:00")
        .await;
    let fields = form(&page, "/failures/rehearse", "id=\"matching\"");
    let (location, page) = operator.act("/failures/rehearse", &borrowed(&fields)).await;
    let filter = json!({ "type": "order.completed", "from": "2026-11-25T09:00:00Z" });
    let body = json!({ "group": "billing", "filter": filter, "rehearse": true, "ramp": false, "force": false });
    assert_eq!(fake.bodies("POST", "/replays"), [body]);
    let query = "group=billing&type=order.completed&from=2026-11-25T09%3A00%3A00Z";
    assert_eq!(location, format!("{}?{query}", page_of()));
    has(
        &page,
        &[
            "Of 30: 20 would be processed, 6 duplicates, 4 would fail. Nothing was changed.",
            "no rate for &#60;NOK&#62;",
            "Only the 26 that would end well",
            "<rect class=\"processed\" x=\"0\" y=\"0\" width=\"666\"",
        ],
    );
    lacks(&page, &["hx-trigger=\"failures from:#live"]);

    let mut fields = form(&page, &format!("{}/start", page_of()), "id=\"start\"");
    for (name, value) in [
        ("which", "all"),
        ("rate", "2.5"),
        ("ramp", "on"),
        ("stop_after", "3"),
        ("force", "on"),
        ("why", "it is there"),
    ] {
        fields.push((name.into(), value.into()));
    }
    let (location, _) = operator.act(&format!("{}/start", page_of()), &borrowed(&fields)).await;
    assert_eq!(location, page_of());
    // Exactly the rehearsed letters, because the filter may match others by now.
    let body = json!({
        "group": "billing", "ids": [id(0), id(1)], "rehearse": false, "rate": 2.5, "ramp": true, "stop_after": 3, "force": true,
        "why": "it is there",
    });
    assert_eq!(fake.bodies("POST", "/replays")[1], body);
}

#[tokio::test]
async fn more_than_can_be_named_are_replayed_by_the_filter_as_of_the_rehearsal() {
    let fake =
        Fake::start(known(rehearsal_of("done", 20_001, &json!({ "processed": 20_001 })))).await;
    let serve = Serve::of(&fake).await;
    let start = format!("{}/start", page_of());
    let fields = [("which", "all"), ("type", "order.completed"), ("why", "w")];
    serve.operator().act(&start, &fields).await;
    let filter = json!({ "type": "order.completed", "to": "2026-11-25T11:00:00Z" });
    let body = json!({
        "group": "billing", "filter": filter, "rehearse": false, "ramp": false, "force": false, "why": "w",
    });
    assert_eq!(fake.bodies("POST", "/replays"), [body]);
}

#[tokio::test]
async fn a_rate_is_a_number() {
    let fake = Fake::start(known(rehearsal_of("done", 1, &json!({ "processed": 1 })))).await;
    let serve = Serve::of(&fake).await;
    for rate in ["inf", "NaN", "1e400", "0", "-1", "fast"] {
        let fields = [("which", "all"), ("rate", rate), ("why", "w")];
        let (_, page) = serve.operator().act(&format!("{}/start", page_of()), &fields).await;
        has(&page, &["a number such as 50"]);
    }
    assert!(fake.bodies("POST", "/replays").is_empty());
}

#[tokio::test]
async fn only_those_that_would_end_well_are_replayed_if_so_chosen() {
    let outcomes = json!({ "processed": 3, "failed": 1 });
    let mut known = known(rehearsal_of("done", 4, &outcomes));
    let outcome = |number| if number == 2 { "failed" } else { "processed" };
    let all = (0..4).map(|number| replayed(number, outcome(number)));
    (known.replayed, known.page) = (all.collect(), Some(2));
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let start = format!("{}/start", page_of());
    operator.act(&start, &[("which", "well"), ("group", "billing"), ("why", "w")]).await;
    let body = json!({
        "group": "billing", "ids": [id(0), id(1), id(3)], "rehearse": false, "ramp": false, "force": false, "why": "w",
    });
    assert_eq!(fake.bodies("POST", "/replays"), [body]);
    // Without a filter, "all" means the letters of the rehearsal.
    operator.act(&start, &[("which", "all"), ("why", "w")]).await;
    assert_eq!(fake.bodies("POST", "/replays")[1]["ids"], json!([id(0), id(1), id(2), id(3)]));
}

#[tokio::test]
async fn selected_letters_of_two_subscriptions_are_two_rehearsals() {
    let mut known = known(rehearsal_of("queued", 2, &json!({})));
    known.letters.push(letter_of("billing.2", 40, "dead"));
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let rows = [(1, "billing"), (40, "billing.2"), (2, "billing")];
    let rows = rows
        .map(|(number, group)| ("letter".to_owned(), format!("billing/{}/{group}", id(number))));
    let (location, page) = operator.act("/failures/rehearse", &borrowed(&rows)).await;
    assert_eq!(location, "/replays");
    has(&page, &["2 rehearsals are requested"]);
    let bodies = fake.bodies("POST", "/replays");
    assert_eq!(
        (&bodies[0]["group"], &bodies[0]["ids"]),
        (&json!("billing"), &json!([id(1), id(2)]))
    );
    assert_eq!((&bodies[1]["group"], &bodies[1]["ids"]), (&json!("billing.2"), &json!([id(40)])));

    let (location, page) = operator.act("/failures/rehearse", &borrowed(&rows[..1])).await;
    assert_eq!(location, page_of());
    has(&page, &["It waits for an instance of billing, or for another replay."]);
}

#[tokio::test]
async fn a_group_is_rehearsed_by_its_fingerprint() {
    let mut known = known(rehearsal_of("running", 2, &json!({})));
    known.groups = vec![crate::fake::group_of("billing", "f1", 2, "open")];
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page("/failures").await;
    let fields = form(&page, "/failures/rehearse", "id=\"groups\"");
    let (location, _) = operator.act("/failures/rehearse", &borrowed(&fields)).await;
    assert_eq!(location, format!("{}?group=billing&fingerprint=f1", page_of()));
    assert_eq!(fake.bodies("POST", "/replays")[0]["filter"], json!({ "fingerprint": "f1" }));
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_cancelled() {
    let fake = Fake::start(known(replay_of("running", 30, &json!({ "processed": 10 })))).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page(&page_of()).await;
    has(
        &page,
        &["10 of 30 letters are settled.", "not settled yet", "every 1s", ">Pause<", ">Cancel it<"],
    );
    lacks(&page, &["Start the replay", ">Resume<"]);
    let here = format!("{}?outcome=failed", page_of());
    for act in ["pause", "resume", "cancel"] {
        let fields = [("why", "the rates are wrong"), ("back", &here)];
        let (location, _) = operator.act(&format!("{}/{act}", page_of()), &fields).await;
        assert_eq!(location, here);
        let path = format!("/replays/{}/{act}", id(99));
        assert_eq!(fake.bodies("POST", &path), [json!({ "why": "the rates are wrong" })]);
    }
    let (_, page) = operator.act(&format!("{}/pause", page_of()), &[]).await;
    has(&page, &["Give a reason"]);
    let (_, page) = operator.act(&format!("{}/explode", page_of()), &[("why", "w")]).await;
    has(&page, &["can be paused, resumed and cancelled"]);

    let mut paused = replay_of("paused", 30, &json!({ "processed": 10, "failed": 1 }));
    paused["note"] = json!("1 of a step of 10 failed");
    fake.known().progress = [paused].into();
    let page = operator.page(&page_of()).await;
    has(&page, &["Replay paused (1 of a step of 10 failed). 11 of 30 were settled", ">Resume<"]);
    lacks(&page, &[">Pause<", "every 1s"]);
}

#[tokio::test]
async fn the_outcome_of_each_letter_is_listed_and_what_failed_leads_on() {
    let done = replay_of("done", 120, &json!({ "processed": 60, "failed": 60 }));
    let mut known = known(done);
    known.replayed = (0..120)
        .map(|number| {
            let (outcome, reason) = if number < 60 { ("processed", None) } else { ("failed", Some("no rate")) };
            json!({ "id": id(number), "event_id": null, "subject": format!("subject-{number:03}"), "outcome": outcome,
                    "reason": reason, "settled_at": "2026-11-25T11:00:00Z" })
        })
        .collect();
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let (mut path, mut seen) = (format!("{}?outcome=failed", page_of()), 0);
    loop {
        let page = operator.page(&path).await;
        has(&page, &["60 of 120 ended well", "failed again: no rate", "See what is dead again"]);
        seen += page.matches("<tr id=\"o-").count();
        let Some(next) = link(&page, "More letters") else { break };
        assert!(next.contains("outcome=failed"), "{next}");
        path = next;
    }
    assert_eq!(seen, 60);
    has(
        &operator.page(&path).await,
        &[&format!("/failures/letters/billing/{}", id(110)), "subject-110"],
    );
}

#[tokio::test]
async fn only_a_rehearsal_that_is_done_leads_to_a_replay() {
    let fake = Fake::start(known(rehearsal_of("running", 30, &json!({})))).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let start = format!("{}/start", page_of());
    let (_, page) = operator.act(&start, &[("why", "w")]).await;
    has(&page, &["Only a rehearsal that is done"]);
    fake.known().progress = [replay_of("done", 30, &json!({ "processed": 30 }))].into();
    let (_, page) = operator.act(&start, &[("why", "w")]).await;
    has(&page, &["Only a rehearsal that is done", "All 30 ended well"]);
    fake.known().progress = [rehearsal_of("done", 30, &json!({ "failed": 30 }))].into();
    for (name, value, expected) in [
        ("rate", "fast", "Letters a second"),
        ("stop_after", "-1", "Pause after"),
        ("x", "", "Give a reason"),
    ] {
        let fields = [(name, value), ("group", "billing"), ("reason", "a b")];
        let (location, page) = operator.act(&start, &fields).await;
        assert_eq!(location, format!("{}?group=billing&reason=a%20b", page_of()));
        has(&page, &[expected, "None of them would end well"]);
    }
    assert!(fake.bodies("POST", "/replays").is_empty());
}

#[tokio::test]
async fn replays_of_all_services_are_listed() {
    let replay = |group: &str, minute: u32| {
        let mut replay = replay_of("done", 3, &json!({ "processed": 2, "failed": 1 }));
        (replay["group"], replay["id"]) = (json!(group), json!(id(minute)));
        replay["requested_at"] = json!(format!("2026-11-25T11:{minute:02}:00Z"));
        replay
    };
    let of = |replays| Fake::start(Known { replays, ..Known::default() });
    let billing = of(vec![replay("billing", 7), replay("billing", 1)]).await;
    let analytics = of(vec![replay("analytics", 3)]).await;
    let serve =
        Serve::start(&[("billing", billing.address), ("analytics", analytics.address)]).await;
    let mut operator = serve.operator();
    let page = operator.page("/replays").await;
    let paths = [("billing", 7), ("analytics", 3), ("billing", 1)];
    let positions =
        paths.map(|(service, it)| page.find(&format!("/replays/{service}/{}", id(it))).unwrap());
    assert!(positions.is_sorted(), "{positions:?}");
    has(&page, &["2 processed, 1 failed", "fixed", "ada"]);
    let page = operator.page("/replays?group=analytics").await;
    has(&page, &[&id(3), "Of analytics only"]);
    lacks(&page, &[&id(7)]);
    billing.known().replays = vec![replay_of("queued", 3, &json!({}))];
    let waits = "waits for an instance of billing, or for another replay";
    has(&operator.page("/replays?group=billing").await, &[waits]);
    billing.known().replays.clear();
    has(&operator.page("/replays?group=billing").await, &["No replays yet"]);
}
