use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::serve::{Serve, form, has, lacks, link};
use crate::fake::{Fake, Known, act_of, id, job_of, letter_of};

/// Returns letters, newest first, one per second.
fn letters(
    group: &str,
    statuses: &[&str],
    numbers: impl DoubleEndedIterator<Item = u32>,
) -> Vec<Value> {
    let letters = numbers.rev().map(|number| {
        let mut letter = letter_of(group, number, statuses[number as usize % statuses.len()]);
        let (minute, second) = (number / 60 % 60, number % 60);
        let hour = 1 + number / 3_600;
        letter["died_at"] = json!(format!("2026-11-25T{hour:02}:{minute:02}:{second:02}.25Z"));
        letter
    });
    letters.collect()
}

fn shown(page: &str) -> Vec<String> {
    let rows = page.split("<tr id=\"l-").skip(1);
    rows.map(|row| row.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_filter_is_in_the_address_the_form_and_the_request() {
    let letters = vec![letter_of("billing", 1, "dead")];
    let fake = Fake::start(Known { letters, ..Known::default() }).await;
    let serve = Serve::of(&fake).await;
    let address = "/failures?view=letters&group=billing&status=dead&type=t&reason=a%20b%26c%22&fingerprint=f1&tenant=acme&\
                   subject=s1&correlation_id=c&event_id=e&from=2026-11-25T10%3A00&to=2026-11-25T11%3A00%3A00%2B01%3A00";
    let page = serve.operator().page(address).await;
    let (_, request, _) = fake.known().requests.pop().unwrap();
    assert_eq!(
        request,
        "/dead-letters?group=billing&status=dead&type=t&reason=a+b%26c%22&fingerprint=f1&tenant=acme&subject=s1&\
         correlation_id=c&event_id=e&from=2026-11-25T10%3A00%3A00Z&to=2026-11-25T11%3A00%3A00%2B01%3A00&limit=50"
    );
    for value in ["billing", "a b&#38;c&#34;", "f1", "acme", "s1", "2026-11-25T10:00"] {
        has(&page, &[&format!("value=\"{value}\"")]);
    }
    has(&page, &["<option value=\"dead\" selected>", "<details class=\"more\" id=\"more\" open>"]);
    let live = address.replace('&', "&#38;");
    has(&page, &[&format!("hx-get=\"{live}\""), &format!("name=\"back\" value=\"{live}\"")]);
    let matching = form(&page, "/failures/rehearse", "id=\"matching\"");
    assert!(matching.contains(&("reason".into(), "a b&c\"".into())), "{matching:?}");
}

#[tokio::test]
async fn a_filter_that_can_not_be_used_is_named() {
    let fake = Fake::start(Known::default()).await;
    let serve = Serve::of(&fake).await;
    for (query, expected) in [
        ("status=dread", "status: "),
        ("from=soon", "from: "),
        ("cursor=7", "cursor: "),
        ("group=x", "no service is called x"),
    ] {
        let answer = serve.operator().get(&format!("/failures?view=letters&{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        has(&answer.body, &[expected]);
    }
}

#[tokio::test]
async fn pages_of_several_services_have_no_gap_and_no_repetition() {
    let open = ["dead", "parked", "replaying", "resolved"];
    let billing = Fake::start(Known {
        letters: letters(
            "billing",
            &open,
            (0..300).filter(|it| it % 3 > 0).collect::<Vec<_>>().into_iter(),
        ),
        ..Known::default()
    });
    let analytics = Fake::start(Known {
        letters: letters(
            "analytics",
            &open,
            (0..300).filter(|it| it % 3 == 0).collect::<Vec<_>>().into_iter(),
        ),
        page: Some(7),
        ..Known::default()
    });
    let (billing, analytics) = (billing.await, analytics.await);
    let services = [("billing", billing.address), ("analytics", analytics.address)];
    let serve = Serve::start(&services).await;
    let mut operator = serve.operator();
    let (mut path, mut seen, mut pages) = ("/failures?view=letters".to_owned(), Vec::new(), 0);
    loop {
        let page = operator.page(&path).await;
        seen.extend(shown(&page));
        pages += 1;
        // Meanwhile the letter shown last dies again, and newer ones arrive.
        let last = seen.last().cloned();
        billing.known().letters.retain(|it| it["id"].as_str() != last.as_deref());
        billing
            .known()
            .letters
            .insert(0, letters("billing", &["dead"], 1_000 + pages..1_001 + pages).remove(0));
        let Some(next) = link(&page, "Older letters") else { break };
        path = next;
    }
    let expected: Vec<_> = (0..300).rev().filter(|it| it % 4 < 3).map(id).collect();
    assert_eq!(seen, expected);
    assert_eq!(pages, 5);
}

#[tokio::test]
async fn a_service_that_hangs_or_is_down_leaves_the_others_in_sight() {
    let known = |group| Known { letters: letters(group, &["dead"], 0..3), ..Known::default() };
    let billing = Fake::start(known("billing")).await;
    let hanging = Fake::start(Known { hangs: true, ..known("order") }).await;
    let mut stopped = Fake::start(known("analytics")).await;
    stopped.stop().await;
    let serve = Serve::start(&[
        ("order", hanging.address),
        ("billing", billing.address),
        ("analytics", stopped.address),
    ])
    .await;
    let began = Instant::now();
    let page = serve.operator().page("/failures?view=letters").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(shown(&page).len(), 3);
    has(&page, &["order gave no answer within 4s", "analytics does not answer GET"]);
    assert_eq!(page.matches("is missing here.").count(), 2, "once each: {page}");
}

#[tokio::test]
async fn a_service_that_hangs_delays_no_page() {
    let (jobs, acts) = (vec![job_of(1, "send", "failed")], vec![act_of(1, "ada", "job.retry")]);
    let billing = Fake::start(Known { jobs, acts, ..Known::default() }).await;
    let hanging = || Fake::start(Known { lists_hang: true, ..Known::default() });
    let (order, shipping) = (hanging().await, hanging().await);
    let serve = Serve::start(&[
        ("order", order.address),
        ("shipping", shipping.address),
        ("billing", billing.address),
    ])
    .await;
    let mut operator = serve.operator();
    for (path, shown) in [
        ("/lag", "subscription-billing-billing"),
        ("/history", "target 1"),
        ("/jobs/all/retry", "1 job of billing"),
    ] {
        let began = Instant::now();
        let page = operator.page(path).await;
        assert!(began.elapsed() < Duration::from_secs(8), "{path}: {:?}", began.elapsed());
        has(&page, &[shown, "order does not answer GET", "shipping does not answer GET"]);
    }
}

#[tokio::test]
async fn the_first_page_of_ten_thousand_letters_comes_within_300_ms() {
    let known = Known { letters: letters("billing", &["dead"], 0..10_000), ..Known::default() };
    let fake = Fake::start(known).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let page = operator.page("/failures?view=letters").await;
        best = best.min(began.elapsed());
        assert_eq!(shown(&page).len(), 50);
    }
    assert!(best < Duration::from_millis(300), "{best:?}");
}

#[tokio::test]
async fn an_empty_list_says_what_to_do() {
    let fake = Fake::start(Known::default()).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    has(&operator.page("/failures?view=letters").await, &["No dead letter is open"]);
    let page = operator.page("/failures?view=letters&tenant=x").await;
    has(&page, &["No dead letter matches", "Show all that are open"]);
    lacks(&page, &["data-needs-selection"]);
}

#[tokio::test]
async fn a_letter_is_shown_with_all_that_is_known_of_it() {
    let mut letter = letter_of("billing", 1, "parked");
    letter["value"] = json!({ "text": r#"{"amount":9007199254740993.10,"lines":[]}"# });
    letter["headers"] = json!([
        { "name": "ce_id", "value": { "text": "e1" } }, { "name": "odd", "value": { "base64": "/wA=" } },
        { "name": "none", "value": null },
    ]);
    letter["attempts"] = json!([
        { "at": "2026-11-25T10:00:00Z", "exception": "billing::NoRate", "message": "no rate for NOK",
          "causes": "no rate for NOK\nrates: table is empty\nsql: 42P01", "replay": null },
        { "at": "2026-11-25T11:00:00Z", "exception": "billing::NoRate", "message": "still none", "causes": "", "replay": id(99) },
    ]);
    letter["edit"] = json!({ "by": "ada", "why": "typo", "at": "2026-11-25T12:00:00Z", "before": { "text": "{\"amount\":0}" } });
    letter["traceparent"] = json!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    (letter["is_edited"], letter["is_expired"], letter["replays"]) =
        (json!(true), json!(true), json!(2));
    let fake = Fake::start(Known { letters: vec![letter], ..Known::default() }).await;
    let serve = Serve::of(&fake).await;
    let mut operator = serve.operator();
    let page = operator.page(&format!("/failures/letters/billing/{}", id(1))).await;
    has(
        &page,
        &[
            "&#34;amount&#34;: 9007199254740993.10,\n  &#34;lines&#34;: []",
            "As it was consumed",
            "&#34;amount&#34;: 0",
            "no rate for NOK",
            "42P01</div></li>",
            "<div class=\"cause\">rates: table is empty</div><div class=\"cause\">sql: 42P01</div>",
            &format!("href=\"/replays/billing/{}\"", id(99)),
            "<dt>odd</dt><dd><code>\\xff\\x00</code>",
            "<dt>none</dt><dd><code>none</code>",
            "partition 5, offset 1",
            "href=\"/flow?q=c1\"",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "by ada: typo",
            "replayed 2× without success",
            "expired",
            "/edit\">Edit the payload",
        ],
    );
    assert_eq!(page.matches("no rate for NOK").count(), 1, "the first cause is the error itself");
    let answer = operator.get(&format!("/failures/letters/billing/{}", id(7))).await;
    assert_eq!(answer.status, 404);
    has(&answer.body, &["unknown dead letter"]);
    let answer = operator.get("/failures/letters/billing/7").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
}
