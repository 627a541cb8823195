//! The page of a flow in a browser: it is refreshed while steps arrive, and its steps open with the
//! keyboard.

use std::time::Duration;

use browser::{Browser, Key, Locator};
use serde_json::json;

use crate::fake::{Known, Services};
use crate::house::House;
use crate::story::*;

const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>\u{202e}\u{1b}[2J";

async fn house(services: &Services) -> House {
    House::with(&[("ORDERFLOW_SERVICES", &services.named())]).await
}

/// Returns an order that analytics and notification have not seen yet.
fn under_way() -> Vec<Known> {
    let mut known = well();
    known[2].steps.clear();
    known[3].steps.clear();
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_fills_itself_while_it_happens() {
    let services = Services::start(under_way()).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/lag")).await;
    browser.enter("header input[name=q]", "c-1").await;
    let field = browser.client.find(Locator::Css("header input[name=q]")).await.unwrap();
    field.send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.shows("under way, 2 things wait").await;
    browser.is_at("/flow?q=c-1").await;
    let missing = "document.querySelectorAll('.scroll .missing').length";
    assert_eq!(browser.run(&format!("return {missing}")).await, 2);
    browser.run("window.isSame = true").await;
    services.known("notification").steps = notification().steps;
    services.known("analytics").inbox = vec![("analytics", "e-1")];
    browser.shows("job send-email: done").await;
    browser.until("nothing is missing", &format!("return {missing} === 0")).await;
    browser.shows("complete").await;
    assert_eq!(browser.run("return window.isSame").await, true, "the page was not loaded again");
    browser.axe("a flow").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_opens_by_the_keyboard_and_stays_open_while_the_page_refreshes() {
    let mut known = under_way();
    known[1] = failed("dead");
    known[1].subscriptions = vec![("billing", "order.completed", "running")];
    let services = Services::start(known).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/flow?q=c-1")).await;
    let link =
        "//*[local-name()='svg']//*[local-name()='a' and contains(@aria-label, 'dead-lettered')]";
    let link = browser.client.find(Locator::XPath(link)).await.unwrap();
    browser
        .client
        .execute("arguments[0].focus()", vec![serde_json::to_value(&link).unwrap()])
        .await
        .unwrap();
    let active = browser.client.active_element().await.unwrap();
    active.send_keys(&Key::Enter.to_string()).await.unwrap();
    browser.shows("Failed attempts").await;
    browser.shows("SQLSTATE 42P01").await;
    browser.click("#step summary").await;
    let asked = || services.known("order").requests.len();
    let before = asked();
    while asked() < before + 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(browser.run("return document.querySelector('#step details').open").await, true);
    browser.press("Close").await;
    browser.until("it is closed", "return document.querySelector('#step') === null").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_paused_asks_for_nothing() {
    let services = Services::start(under_way()).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/flow?q=c-1")).await;
    browser.shows("under way").await;
    browser.click("#pause").await;
    // Requests sent before the pause have been answered by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = services.known("order").requests.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(services.known("order").requests.len(), before);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_stays_text_on_a_screen_and_on_a_phone() {
    let mut known = vec![order(), resolved(), notified_later(), analytics()];
    known[0].steps[0]["name"] = json!(HOSTILE);
    known[0].steps[0]["error"] = json!(HOSTILE);
    known[0].steps[1]["subject"] = json!(HOSTILE);
    known[1].steps[0]["attempts"][0]["error"] = json!(HOSTILE);
    known[1].open.push(json!({ "kind": HOSTILE, "reason": HOSTILE, "since": at(30) }));
    let services = Services::start(known).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        for width in [1280, 390] {
            browser.size(width, 900).await;
            for path in
                ["/flow", "/flow?q=nobody%22%3E%3Cimg%3E", "/flow?q=c-1", "/flow?q=c-1&steps=all"]
            {
                browser.goto(&house.url(path)).await;
                browser.assert_well_formed(&format!("{path}, {scheme}, {width} px")).await;
            }
            browser.run("document.querySelector('.tree a').click()").await;
            browser.shows("As the service sent it").await;
            browser.assert_well_formed(&format!("a step, {scheme}, {width} px")).await;
        }
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_order_that_was_rehearsed_and_replayed_is_one_picture() {
    let known = vec![order(), resolved(), notified_later(), analytics()];
    let services = Services::start(known).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    browser.size(1280, 860).await;
    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        browser.goto(&house.url("/flow?q=c-1")).await;
        for text in ["dead-lettered after 4 attempts", "rehearsal by ada: would be processed"] {
            browser.shows(text).await;
        }
        browser.picture(&format!("flow-{scheme}")).await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_the_names_of_the_lanes_stay_while_the_picture_scrolls() {
    let services = Services::start(well()).await;
    let house = house(&services).await;
    let browser = Browser::start().await;
    browser.size(390, 900).await;
    browser.goto(&house.url("/flow?q=c-1")).await;
    browser.shows("complete").await;
    let scrolls = "const all = document.querySelector('.flow-scroll');
        all.scrollLeft = 500;
        const left = (css) => all.querySelector(css).getBoundingClientRect().left - all.getBoundingClientRect().left;
        return [left('.flow-names .name') >= 0, left('.flow-picture:not(.flow-names)')];";
    assert_eq!(browser.run(scrolls).await, json!([true, -500]));
    let same_height = "const [picture, names] = document.querySelectorAll('.flow-scroll > svg');
        return Math.abs(picture.getBoundingClientRect().height - names.getBoundingClientRect().height) < 1";
    assert_eq!(browser.run(same_height).await, true);
    browser.close().await;
}
