//! Texts from messages and from other services are shown as text on every page.

use serde_json::{Value, json};

use super::serve::{Serve, has};
use crate::fake::{Fake, Known, group_of, id, letter_of, replay_of};

const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}\u{1b}[2J\u{0}\u{9b}\u{202e}&amp;";

fn hostile(item: &mut Value, members: &[&str]) {
    for member in members {
        item[*member] = json!(HOSTILE);
    }
}

fn known() -> Known {
    let mut letter = letter_of("billing", 1, "dead");
    hostile(
        &mut letter,
        &[
            "event_id",
            "event_type",
            "source",
            "subject",
            "tenant",
            "correlation_id",
            "topic",
            "reason",
            "exception",
            "fingerprint",
            "outcome",
            "causes",
            "group",
            "died_at",
            "traceparent",
        ],
    );
    letter["value"] = json!({ "text": format!("{{\"a\":{}}}", json!(HOSTILE)) });
    letter["key"] = json!({ "text": HOSTILE });
    letter["headers"] = json!([{ "name": HOSTILE, "value": { "text": HOSTILE } }]);
    let attempt = json!({ "at": HOSTILE, "exception": HOSTILE, "message": HOSTILE, "causes": HOSTILE, "replay": null });
    letter["attempts"] = json!([attempt]);
    letter["edit"] =
        json!({ "by": HOSTILE, "why": HOSTILE, "at": HOSTILE, "before": { "text": HOSTILE } });
    let mut group = group_of("billing", "f1", 1, "open");
    hostile(
        &mut group,
        &[
            "fingerprint",
            "group",
            "event_type",
            "exception",
            "reason",
            "note",
            "by",
            "first_at",
            "last_at",
        ],
    );
    let mut replay = replay_of("paused", 3, &json!({ "failed": 1 }));
    hostile(&mut replay, &["group", "status", "by", "why", "note", "requested_at"]);
    replay["failures"] = json!([{ "reason": HOSTILE, "letters": 1 }]);
    let replayed = json!({ "id": id(1), "event_id": HOSTILE, "subject": HOSTILE, "outcome": "failed", "reason": HOSTILE, "settled_at": HOSTILE });
    Known {
        letters: vec![letter],
        groups: vec![group],
        replays: vec![replay.clone()],
        progress: [replay].into(),
        replayed: vec![replayed],
        ..Known::default()
    }
}

#[tokio::test]
async fn hostile_text_stays_text_and_its_control_characters_are_visible() {
    let fake = Fake::start(known()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let letter = format!("/failures/letters/billing/{}", id(1));
    let mut query = reqwest::Url::parse("http://x").unwrap();
    let names =
        ["reason", "type", "tenant", "subject", "correlation_id", "event_id", "fingerprint"];
    query.query_pairs_mut().extend_pairs(names.map(|name| (name, HOSTILE)));
    let query = query.query().unwrap();
    for path in [
        "/failures?state=any".to_owned(),
        "/failures?view=letters".to_owned(),
        format!("/failures?state=any&{query}"),
        format!("/failures?view=letters&status=any&{query}"),
        letter.clone(),
        "/replays".to_owned(),
        format!("/replays/billing/{}", id(99)),
        format!("/replays/billing/{}?{query}", id(99)),
    ] {
        let page = operator.page(&path).await;
        for tag in ["<script>alert", "<img", "onerror=alert(1)>"] {
            assert!(!page.contains(tag), "{path} has {tag}: {page}");
        }
        // Values of fields and addresses may contain the original text; everything else must be
        // escaped.
        let shown = without_values(&page);
        let control = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        let at = shown.find(control);
        let around = at.map(|at| &shown[shown.floor_char_boundary(at.saturating_sub(200))..at]);
        assert_eq!(around, None, "{path}");
        if !path.contains('&') {
            has(&page, &["\\x1b[2J\\x00\\u{9b}\\u{202e}&#38;amp;"]);
        }
    }
    let edit = operator.page(&format!("{letter}/edit")).await;
    assert!(!edit.contains("<script>alert") && !edit.contains("<img"), "{edit}");
}

/// Returns the page without the values of fields and links.
fn without_values(page: &str) -> String {
    let mut kept = String::new();
    let mut rest = page;
    while let Some(at) = rest.find("value=\"") {
        kept.push_str(&rest[..at]);
        let value = &rest[at + 7..];
        rest = &value[value.find('"').unwrap()..];
    }
    kept + rest
}
