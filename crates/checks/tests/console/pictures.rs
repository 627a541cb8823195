//! Takes the pictures of the README: pages of a system after a quarter of an hour with failures.

use std::time::{Duration, Instant};

use browser::Browser;
use playground::Behaviour;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::house::House;
use crate::mended::{rehearse, replay, sign_in};
use crate::shop::{ACME, GLOBEX, Placed, Shop};

/// Time between two orders.
const PACE: Duration = Duration::from_secs(4);
/// Time until the retries of a webhook are used up, and its first failures are no longer shown as
/// new.
const LASTS: Duration = Duration::from_mins(11);
const NO_RATE: &str = "the exchange rate service answered 503";
const NO_SERIES: &str = "the invoice series 2026-SE is closed";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 12 minutes, and is for its pictures: PICTURES=docs/img"]
async fn a_bad_quarter_of_an_hour() {
    let house = House::start().await;
    let hour = Hour { shop: Shop::new(&house), house: &house };
    let (ada, grace) = (Browser::start().await, Browser::start().await);
    sign_in(&ada, &house, "ada-token").await;
    sign_in(&grace, &house, "grace-token").await;
    house.partner.behave(Behaviour { failure_rate: 1.0, status: 503, ..Behaviour::default() });
    hour.shop.deliver(&ACME, &house.third_party.url()).await;
    hour.shop.deliver(&GLOBEX, &house.partner.url()).await;

    let start = Instant::now();
    hour.sell(6).await;
    hour.breaks("billing", "permanent", NO_SERIES, 3).await;
    hour.sell(2).await;
    hour.acknowledge(&grace).await;
    hour.breaks("notification", "permanent", "no receipt template for sv-SE", 4).await;
    hour.sell(4).await;
    hour.pause(&grace).await;
    hour.breaks("billing", "transient", NO_RATE, 5).await;
    let mended = hour.fix_failure(&ada).await;
    while start.elapsed() < LASTS {
        hour.sell(1).await;
    }
    hour.breaks("billing", "transient", NO_RATE, 3).await;
    hour.sell(10).await;
    take(&ada, &house, &mended).await;
    ada.close().await;
    grace.close().await;
    house.end().await;
}

struct Hour<'a> {
    house: &'a House,
    shop: Shop<'a>,
}

impl Hour<'_> {
    async fn sell(&self, orders: usize) {
        for _ in 0..orders {
            self.shop.sell().await;
            sleep(PACE).await;
        }
    }

    /// Sells while the handlers of a subscription fail.
    async fn breaks(&self, service: &str, kind: &str, reason: &str, orders: usize) {
        let of = (service == "notification").then_some("invoice.issued");
        let fault = json!({ "kind": kind, "reason": reason, "event_type": of });
        self.house.fault(service, fault).await;
        self.sell(orders).await;
        if kind == "transient" {
            // Waits for the retries of the last order.
            sleep(Duration::from_secs(14)).await;
        }
        self.house.fault(service, Value::Null).await;
    }

    async fn acknowledge(&self, browser: &Browser) {
        browser.goto(&self.house.url("/failures")).await;
        browser.shows(NO_SERIES).await;
        browser.press_in_row(NO_SERIES, "Triage").await;
        browser.enter("details[open] input[name=note]", "finance opens the next series").await;
        browser.press("Acknowledge").await;
        browser.shows("acknowledged").await;
    }

    /// Pauses analytics while orders arrive faster than usual.
    async fn pause(&self, browser: &Browser) {
        browser.goto(&self.house.url("/lag")).await;
        let form = "form[action='/lag/analytics/analytics/pause']";
        browser.enter(&format!("{form} input[name=why]"), "the revenue table is being moved").await;
        browser.click(&format!("{form} button")).await;
        browser.shows("Paused by grace").await;
        for _ in 0..30 {
            self.shop.sell().await;
        }
        self.sell(6).await;
        browser.click("form[action='/lag/analytics/analytics/resume'] button").await;
        self.sell(3).await;
    }

    /// Rehearses a replay that fails, then sells while the failure is fixed. Returns one of its
    /// orders.
    async fn fix_failure(&self, browser: &Browser) -> Placed {
        browser.goto(&self.house.url("/failures")).await;
        self.house.fault("billing", json!({ "kind": "transient", "reason": NO_RATE })).await;
        let order = self.shop.sell().await;
        browser.goto(&self.house.url(&format!("/flow?q={}", order.id))).await;
        browser.shows("dead-lettered after 4 attempts").await;
        browser.press("Failures").await;
        rehearse(browser, NO_RATE, "would fail. Nothing was changed.").await;
        self.house.fault("billing", Value::Null).await;
        self.sell(3).await;
        browser.press("Failures").await;
        rehearse(browser, NO_RATE, "would be processed. Nothing was changed.").await;
        replay(browser, "the exchange rates are back", "ended well").await;
        order
    }
}

/// Takes the pictures: each page in its light and its dark scheme, down to an element.
async fn take(browser: &Browser, house: &House, order: &Placed) {
    let flow = format!("/flow?q={}", order.id);
    let pages = [
        ("overview", "/", "dead letters wait", "[aria-labelledby=lag-title]"),
        ("failures", "/failures", NO_SERIES, "#groups"),
        ("flow", &flow, "replay by ada: processed", "[aria-label='The flow over time']"),
    ];
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        for (name, path, text, last) in pages {
            browser.sharp(1100, 900).await;
            browser.goto(&house.url(path)).await;
            browser.shows(text).await;
            let end = format!(
                "return Math.round(document.querySelector(\"{last}\").getBoundingClientRect().bottom)"
            );
            let end = u32::try_from(browser.run(&end).await.as_u64().unwrap()).unwrap();
            browser.sharp(1100, end + 16).await;
            browser.picture(&format!("{name}-{scheme}")).await;
        }
    }
}
