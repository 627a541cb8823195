//! Checks every page for violations of its policy, problems that axe finds, and sideways scrolling
//! on a phone.

use crate::house::House;
use crate::service::{group_of, job_of};
use browser::Browser;

/// The pages without tests of their own.
const PAGES: [&str; 10] = [
    "/",
    "/lag",
    "/jobs",
    "/jobs?state=failed&service=billing",
    "/jobs/all/discard?state=failed",
    "/history",
    "/api",
    "/api/events",
    "/sign-in",
    "/nowhere",
];

const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>\u{202e}\u{1b}[2J";

fn fill(house: &House) {
    let mut known = house.service.known();
    known.jobs = (0..60).map(|it| job_of(it, "deliver-webhook", "failed")).collect();
    known.jobs.push(job_of(90, "send-email", "waiting"));
    known.jobs[3]["last_error"] = HOSTILE.into();
    known.jobs[4]["kind"] = HOSTILE.into();
    known.jobs[5]["subject"] = HOSTILE.into();
    known.groups = vec![group_of(HOSTILE, 12)];
    known.paused =
        Some(serde_json::json!({ "by": HOSTILE, "why": HOSTILE, "since": "2026-11-25T10:00:00Z" }));
    let act = |by: &str| {
        serde_json::json!({ "id": 1, "at": "2026-11-25T10:00:00Z", "by": by, "act": "jobs.retry",
        "target": HOSTILE, "why": HOSTILE, "outcome": null })
    };
    known.acts = vec![act("ada"), act(HOSTILE)];
}

async fn visit(browser: &Browser, house: &House, what: &str) {
    for path in PAGES {
        browser.goto(&house.url(path)).await;
        browser.assert_well_formed(&format!("{path}, {what}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_usable_in_light_and_dark_on_a_screen_and_on_a_phone_whatever_the_texts_are() {
    let house = House::start().await;
    let mut browser = Browser::start().await;
    browser.expect("404 (Not Found)"); // `/nowhere`
    visit(&browser, &house, "empty").await;
    fill(&house);
    browser.goto(&house.url("/")).await;
    browser.shows("12 dead letters wait").await;
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        for width in [1280, 390] {
            browser.size(width, 900).await;
            visit(&browser, &house, &format!("{scheme}, {width} px")).await;
            browser.goto(&house.url("/")).await;
            browser.picture(&format!("looks-{scheme}-{width}")).await;
        }
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_text_and_its_numbers_are_exact() {
    let house = House::start().await;
    house.service.known().jobs = vec![job_of(1, "deliver-webhook", "failed")];
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs/billing/01a20a9a-7779-774a-8232-000000000001")).await;
    browser.shows("\"amount\": 12345678901234567890.10,").await;
    browser.shows("<img src=x onerror=alert(1)>").await;
    browser.shows("caused by: <b>x</b>").await;
    browser.axe("a job").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_named_and_blanks_no_page() {
    let house = House::with(&[(
        "ORDERFLOW_SERVICES",
        "billing=http://127.0.0.1:1,order=http://127.0.0.1:1",
    )])
    .await;
    let browser = Browser::start().await;
    for path in ["/lag", "/jobs", "/history"] {
        browser.goto(&house.url(path)).await;
        browser.shows("billing does not answer").await;
        browser.axe(path).await;
    }
    browser.goto(&house.url("/")).await;
    browser.shows("not ready").await;
    browser.close().await;
}
