//! Edits of a payload.

use serde_json::json;

use super::serve::{Serve, borrowed, form, has};
use crate::fake::{Fake, Known, id, letter_of, replay_of};

async fn house(value: &str) -> (Fake, Serve) {
    let mut letter = letter_of("billing", 1, "dead");
    letter["value"] = json!({ "text": value });
    let mut rehearsal = replay_of("done", 1, &json!({ "processed": 1 }));
    rehearsal["rehearsal"] = json!(true);
    let known = Known { letters: vec![letter], progress: [rehearsal].into(), ..Known::default() };
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    (fake, serve)
}

fn letter() -> String {
    format!("/failures/letters/billing/{}", id(1))
}

/// Returns the raw body of the last request, because a JSON value would be rounded.
fn put(fake: &Fake) -> Vec<serde_json::Value> {
    fake.bodies("PUT", &format!("/dead-letters/{}/payload", id(1)))
}

#[tokio::test]
async fn an_edit_sends_what_was_written_and_leads_to_its_rehearsal() {
    let (fake, serve) = house(r#"{"amount":10.50,"to":"</textarea><script>x</script>"}"#).await;
    let mut operator = serve.operator();
    let edit = format!("{}/edit", letter());
    let page = operator.page(&edit).await;
    has(&page, &["&#34;amount&#34;: 10.50,", "&#60;/textarea&#62;&#60;script&#62;"]);
    let mut fields = form(&page, &edit, "<h1>");
    fields.push(("value".into(), "{\r\n  \"amount\": 11,\r\n  \"note\": \"a  b\"\r\n}".into()));
    fields.push(("why".into(), "typo".into()));
    let (location, page) = operator.act(&edit, &borrowed(&fields)).await;
    assert_eq!(location, letter());
    has(&page, &["The payload is replaced."]);
    let body = json!({ "value": { "amount": 11, "note": "a  b" }, "why": "typo" });
    assert_eq!(put(&fake), [body]);

    fields.push(("rehearse".into(), "yes".into()));
    let (location, _) = operator.act(&edit, &borrowed(&fields)).await;
    assert_eq!(location, format!("/replays/billing/{}", id(99)));
    let body = json!({ "group": "billing", "ids": [id(1)], "rehearse": true, "ramp": false, "force": false });
    assert_eq!(fake.bodies("POST", "/replays"), [body]);
}

#[tokio::test]
async fn a_text_that_is_refused_stays_in_the_field() {
    let (fake, serve) = house("{\"amount\":1}").await;
    let mut operator = serve.operator();
    let edit = format!("{}/edit", letter());
    let fields = form(&operator.page(&edit).await, &edit, "<h1>");
    let with = |value: &str, why: &str| {
        let more = [("value".to_owned(), value.to_owned()), ("why".to_owned(), why.to_owned())];
        [fields.clone(), more.to_vec()].concat()
    };
    for (value, why, expected) in
        [("{\"amount\": }", "w", "not JSON"), ("{\"amount\":2}", " ", "Give a reason")]
    {
        let answer = operator.post(&edit, &borrowed(&with(value, why))).await;
        assert_eq!(answer.status, 422);
        has(&answer.body, &[expected, &value.replace('"', "&#34;")]);
    }
    assert!(put(&fake).is_empty());
    fake.known().refuses =
        Some((422, "value: amount: \"<i>\" is not a number\nvalue: currency: missing"));
    let answer = operator.post(&edit, &borrowed(&with("{\"amount\":\"<i>\"}", "typo"))).await;
    assert_eq!(answer.status, 422);
    has(
        &answer.body,
        &[
            "<li>value: amount: &#34;&#60;i&#62;&#34; is not a number</li><li>value: currency: missing</li>",
            "{&#34;amount&#34;:&#34;&#60;i&#62;&#34;}",
            "value=\"typo\"",
        ],
    );
}

#[tokio::test]
async fn an_edit_does_not_overwrite_that_of_another_operator_unseen() {
    let (fake, serve) = house("{\"amount\":1}").await;
    let (mut ada, mut bob) = (serve.operator(), serve.operator_with(crate::fake::OTHER_TOKEN));
    let edit = format!("{}/edit", letter());
    let fields = |page: &str, value: &str| {
        let more = [("value".to_owned(), value.to_owned()), ("why".to_owned(), "w".to_owned())];
        [form(page, &edit, "<h1>"), more.to_vec()].concat()
    };
    let (of_ada, of_bob) = (ada.page(&edit).await, bob.page(&edit).await);
    ada.act(&edit, &borrowed(&fields(&of_ada, "{\"amount\":2}"))).await;
    {
        let mut known = fake.known();
        known.letters[0]["value"] = json!({ "text": "{\"amount\":2}" });
        known.letters[0]["edit"] = json!({ "by": "ada", "why": "w", "at": "t", "before": null });
    }
    let answer = bob.post(&edit, &borrowed(&fields(&of_bob, "{\"amount\":3}"))).await;
    assert_eq!(answer.status, 409);
    has(&answer.body, &["was changed by ada", "{&#34;amount&#34;:3}"]);
    assert_eq!(put(&fake).len(), 1);
    bob.act(&edit, &borrowed(&fields(&answer.body, "{\"amount\":3}"))).await;
    assert_eq!(put(&fake).len(), 2);
}

#[tokio::test]
async fn of_a_structured_event_the_data_is_edited() {
    let (fake, serve) =
        house(r#"{"specversion":"1.0","id":"e1","data":{"amount":9007199254740993}}"#).await;
    let headers = json!([{ "name": "content-type", "value": { "text": "application/cloudevents+json; charset=utf-8" } }]);
    fake.known().letters[0]["headers"] = headers;
    let mut operator = serve.operator();
    let page = operator.page(&format!("{}/edit", letter())).await;
    has(&page, &["required>\n{\n  &#34;amount&#34;: 9007199254740993\n}</textarea>"]);
    fake.known().letters[0]["value"] = json!({ "base64": "/w==" });
    let answer = operator.get(&format!("{}/edit", letter())).await;
    assert_eq!(answer.status, 400);
    has(&answer.body, &["The payload is binary"]);
}

#[tokio::test]
async fn a_letter_of_three_megabytes_can_be_edited() {
    let long = format!("{{\"text\":\"{}\"}}", "\u{e9}\\\"".repeat(800_000));
    let (fake, serve) = house(&long).await;
    let mut operator = serve.operator();
    let edit = format!("{}/edit", letter());
    let page = operator.page(&edit).await;
    let mut fields = form(&page, &edit, "<h1>");
    fields.push(("value".into(), long.replace("text", "note")));
    fields.push(("why".into(), "the name was wrong".into()));
    let (location, _) = operator.act(&edit, &borrowed(&fields)).await;
    assert_eq!(location, letter());
    assert_eq!(put(&fake)[0]["value"]["note"].as_str().unwrap().chars().count(), 1_600_000);
}

#[tokio::test]
async fn an_edited_letter_shows_the_lines_that_were_changed() {
    let (fake, serve) = house("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"to\":\"<b>\"}").await;
    let before = json!({ "text": "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"to\":\"<i>\"}" });
    fake.known().letters[0]["edit"] =
        json!({ "by": "ada", "why": "w", "at": "2026-11-25T10:00:00Z", "before": before });
    let page = serve.operator().page(&letter()).await;
    let difference = page.split("id=\"difference\"").nth(1).unwrap();
    let difference = difference.split("</details>").next().unwrap();
    has(
        difference,
        &[
            "<span class=\"removed\">\u{2212}   &#34;to&#34;: &#34;&#60;i&#62;&#34;</span>",
            "<span class=\"added\">+   &#34;to&#34;: &#34;&#60;b&#62;&#34;</span>",
            "&#34;d&#34;: 4",
        ],
    );
    assert!(!difference.contains("&#34;a&#34;"), "{difference}");
}
