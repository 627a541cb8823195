//! Failures in a browser: a failure appears without a reload, is rehearsed, replayed and resolved.

use serde_json::{Value, json};

use crate::admin::{Fake, Known, group_of, id, letter_of, replay_of};
use crate::house::House;
use browser::Browser;

const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>\u{202e}\u{1b}[2J";

async fn house(fake: &Fake) -> House {
    let services = format!("billing=http://{}", fake.address);
    House::with(&[("ORDERFLOW_SERVICES", &*services), ("OPERATOR_TOKEN", "secret")]).await
}

fn rehearsal_of(status: &str, selected: u64, outcomes: &Value) -> Value {
    let mut rehearsal = replay_of(status, selected, outcomes);
    rehearsal["rehearsal"] = json!(true);
    rehearsal
}

fn replayed(number: u32, outcome: Option<&str>) -> Value {
    let reason = (outcome == Some("failed")).then_some("no rate for NOK");
    json!({ "id": id(number), "event_id": "e", "subject": format!("order-{number}"), "outcome": outcome,
            "reason": reason, "settled_at": "2026-11-25T11:00:00Z" })
}

fn known() -> Known {
    let mut letters: Vec<_> = (0..59).rev().map(|it| letter_of("billing", it, "dead")).collect();
    letters[1]["reason"] = json!(HOSTILE);
    letters[1]["value"] =
        json!({ "text": format!("{{\"amount\":9007199254740993.10,\"of\":{}}}", json!(HOSTILE)) });
    letters[1]["headers"] = json!([{ "name": HOSTILE, "value": { "text": HOSTILE } }]);
    letters[1]["attempts"] = json!([
        { "at": "2026-11-25T10:00:00Z", "exception": "billing::NoRate", "message": HOSTILE, "causes": HOSTILE, "replay": null },
    ]);
    letters[1]["edit"] = json!({ "by": "ada", "why": HOSTILE, "at": "2026-11-25T10:00:00Z", "before": { "text": HOSTILE } });
    let mut groups: Vec<_> = ["open", "acknowledged", "regressed"]
        .iter()
        .enumerate()
        .map(|(at, status)| group_of("billing", &format!("f{at}"), 59, status))
        .collect();
    groups[0]["reason"] = json!(HOSTILE);
    groups[1]["note"] = json!(HOSTILE);
    let outcomes = json!({ "processed": 50, "duplicate": 5, "failed": 4 });
    let mut rehearsal = rehearsal_of("done", 59, &outcomes);
    rehearsal["failures"] = json!([{ "reason": HOSTILE, "letters": 4 }]);
    Known {
        letters,
        groups,
        replays: vec![rehearsal.clone(), replay_of("paused", 9, &json!({ "held": 3 }))],
        progress: [rehearsal].into(),
        replayed: (0..59)
            .map(|it| replayed(it, Some(if it < 4 { "failed" } else { "processed" })))
            .collect(),
        ..Known::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_usable_in_light_and_dark_on_a_screen_and_on_a_phone_whatever_the_texts_are() {
    let fake = Fake::start(known()).await;
    let house = house(&fake).await;
    let browser = Browser::start().await;
    let letter = format!("/failures/letters/billing/{}", id(57));
    let paths = [
        "/failures".to_owned(),
        "/failures?state=ignored".to_owned(),
        "/failures?view=letters&tenant=acme".to_owned(),
        "/failures?view=letters&status=discarded".to_owned(),
        letter.clone(),
        format!("{letter}/edit"),
        "/replays".to_owned(),
        format!("/replays/billing/{}?group=billing", id(99)),
    ];
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)] {
        browser.scheme(scheme).await;
        browser.size(width, 900).await;
        for (at, path) in paths.iter().enumerate() {
            let what = format!("{path}, {scheme}, {width} px");
            browser.goto(&house.url(path)).await;
            browser.assert_well_formed(&what).await;
            browser.picture(&format!("failures-{at}-{scheme}-{width}")).await;
        }
    }
    browser.goto(&house.url(&letter)).await;
    browser.shows("\"amount\": 9007199254740993.10,").await;
    browser.shows("<script>alert(2)</script>\\u{202e}").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_appears_by_itself_is_rehearsed_replayed_and_resolved() {
    let fake = Fake::start(Known::default()).await;
    let house = house(&fake).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/failures")).await;
    browser.shows("Nothing needs attention").await;
    {
        let mut known = fake.known();
        let mut group = group_of("billing", "f1", 3, "open");
        group["reason"] = json!("no rate for NOK");
        known.groups = vec![group];
        known.letters = (0..3).rev().map(|it| letter_of("billing", it, "dead")).collect();
        known.progress = [rehearsal_of("running", 3, &json!({}))].into();
        known.replayed = (0..3).map(|it| replayed(it, None)).collect();
    }
    browser.shows("no rate for NOK").await;
    browser.press("Rehearse").await;
    browser.shows("0 of 3 letters are settled.").await;
    let outcomes = json!({ "processed": 2, "failed": 1 });
    fake.known().progress = [rehearsal_of("done", 3, &outcomes)].into();
    fake.known().replayed = vec![
        replayed(0, Some("processed")),
        replayed(1, Some("failed")),
        replayed(2, Some("processed")),
    ];
    browser.shows("Of 3: 2 would be processed, 1 would fail. Nothing was changed.").await;
    browser.shows("would fail: no rate for NOK").await;

    fake.known().progress.push_back(replay_of("running", 3, &json!({ "processed": 1 })));
    browser.click("#start input[value=all]").await;
    browser.enter("#start input[name=rate]", "50").await;
    browser.enter("#start input[name=why]", "the rate is there").await;
    browser.press("Start the replay").await;
    browser.shows("1 of 3 letters are settled.").await;
    let body = fake.bodies("POST", "/replays").pop().unwrap();
    assert_eq!((&body["rate"], &body["why"]), (&json!(50.0), &json!("the rate is there")));
    browser.enter("#steer-pause-why", "is it right?").await;
    fake.known().progress = [replay_of("running", 3, &json!({ "processed": 2 }))].into();
    browser.shows("2 of 3 letters are settled.").await;
    let typed = "return document.querySelector('#steer-pause-why').value";
    assert_eq!(browser.run(typed).await, "is it right?", "a refresh leaves what is typed");
    {
        let mut known = fake.known();
        known.progress = [replay_of("done", 3, &json!({ "processed": 3 }))].into();
        known.groups = vec![group_of("billing", "f1", 0, "resolved")];
        known.letters.clear();
    }
    browser.shows("All 3 ended well: 3 processed.").await;
    browser.goto(&house.url("/failures")).await;
    browser.shows("Nothing needs attention").await;
    browser.goto(&house.url("/failures?state=any")).await;
    browser.shows("resolved").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_leaves_selected_rows_and_what_is_typed() {
    let fake = Fake::start(known()).await;
    let house = house(&fake).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/failures?view=letters")).await;
    browser.click(&format!("#c-{}", id(50))).await;
    browser.click(&format!("#c-{}", id(51))).await;
    browser.shows("2 selected").await;
    browser.enter("form[data-selection] input[name=why]", "test orders").await;
    {
        let mut known = fake.known();
        let mut newer = letter_of("billing", 59, "dead");
        newer["reason"] = json!("it died just now");
        known.letters.insert(0, newer);
        known.groups.push(group_of("billing", "f9", 1, "open"));
    }
    browser.shows("it died just now").await;
    browser.shows("2 selected").await;
    let kept =
        format!(
        "return document.querySelector('#c-{}').checked && document.querySelector('#c-{}').checked
         && !document.querySelector('#c-{}').checked
         && document.querySelector('form[data-selection] input[name=why]').value === 'test orders'",
        id(50), id(51), id(59)
    );
    assert_eq!(browser.run(&kept).await, true);
    browser.press("Discard").await;
    browser.shows("2 letters discarded.").await;
    assert_eq!(fake.bodies("POST", "/dead-letters/discard")[0]["ids"], json!([id(51), id(50)]));
    browser.press("Undo").await;
    browser.shows("2 letters restored.").await;
    browser.is_at("/failures?view=letters").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_to_pause_a_replay_is_not_sent_with_a_resume() {
    let fake = Fake::start(known()).await;
    fake.known().progress = [replay_of("running", 30, &json!({ "processed": 1 }))].into();
    let house = house(&fake).await;
    let browser = Browser::start().await;
    browser.goto(&house.url(&format!("/replays/billing/{}", id(99)))).await;
    browser.enter("#steer-pause-why", "the rates are wrong").await;
    fake.known().progress = [replay_of("paused", 30, &json!({ "processed": 1 }))].into();
    browser.shows("Resume").await;
    let typed = "return document.querySelector('#steer-resume-why').value";
    assert_eq!(browser.run(typed).await, "");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_the_progress_of_a_replay_too() {
    let fake = Fake::start(known()).await;
    fake.known().progress = [replay_of("running", 30, &json!({ "processed": 1 }))].into();
    let house = house(&fake).await;
    let browser = Browser::start().await;
    browser.goto(&house.url(&format!("/replays/billing/{}", id(99)))).await;
    browser.shows("1 of 30 letters are settled.").await;
    browser.press("Live").await;
    browser.shows("Paused").await;
    fake.known().progress = [replay_of("running", 30, &json!({ "processed": 2 }))].into();
    // Longer than two intervals of the refresh.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    browser.shows("1 of 30 letters are settled.").await;
    browser.press("Paused").await;
    browser.shows("2 of 30 letters are settled.").await;
    browser.close().await;
}
