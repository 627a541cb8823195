//! An hour on call, by clicks only: a failure occurs, appears, is rehearsed, healed, replayed and
//! resolved.

use browser::Browser;
use serde_json::{Value, json};

use crate::house::House;
use crate::shop::{Placed, Shop};

const REASON: &str = "no exchange rate for NOK today";

/// Signs in, so that acts are recorded with a name.
pub(crate) async fn sign_in(browser: &Browser, house: &House, token: &str) {
    browser.goto(&house.url("/")).await;
    browser.press("Sign in").await;
    browser.enter("#token", token).await;
    browser.click("main button").await;
    browser.shows("Sign out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_appears_is_rehearsed_healed_replayed_and_resolved() {
    let house = House::start().await;
    let shop = Shop::new(&house);
    house.invoiced(&shop.sell().await).await;
    let (desk, wall) = (Browser::start().await, Browser::start().await);
    sign_in(&desk, &house, "ada-token").await;
    desk.shows("All is well").await;
    desk.assert_well_formed("the overview").await;
    desk.press("Failures").await;
    desk.shows("Nothing needs attention").await;

    house.fault("billing", json!({ "kind": "transient", "reason": REASON })).await;
    let order = shop.sell().await;
    open_flow(&wall, &house, &order).await;
    wall.shows("dead-lettered after 4 attempts").await;
    desk.shows(REASON).await;
    desk.assert_well_formed("a group of failures").await;
    rehearse(&desk, REASON, "Of 1: 1 would fail. Nothing was changed.").await;
    desk.shows(&format!("would fail: {REASON}")).await;
    desk.assert_well_formed("a rehearsal that fails").await;

    house.fault("billing", Value::Null).await;
    desk.press("Failures").await;
    rehearse(&desk, REASON, "Of 1: 1 would be processed. Nothing was changed.").await;
    replay(&desk, "the rates are loaded again", "It ended well.").await;
    desk.assert_well_formed("a replay that ended well").await;
    house.invoiced(&order).await;
    desk.press("Failures").await;
    desk.shows("Nothing needs attention").await;
    desk.press("Earlier groups").await;
    desk.shows("resolved").await;
    desk.press("History").await;
    desk.shows("the rates are loaded again").await;

    wall.shows("replay by ada: processed").await;
    wall.shows("complete").await;
    wall.assert_well_formed("a flow that was mended").await;
    assert_eq!(wall.run("return window.isSame").await, true, "the flow was not loaded again");
    desk.close().await;
    wall.close().await;
    house.end().await;
}

/// Opens the flow of a newly placed order.
async fn open_flow(browser: &Browser, house: &House, order: &Placed) {
    browser.goto(&house.url("/")).await;
    browser.press("Flow").await;
    browser.enter("main input[name=q]", &order.id).await;
    browser.press("Show the flow").await;
    browser.is_at(&format!("/flow?q={}", order.id)).await;
    browser.shows("POST /orders").await;
    browser.run("window.isSame = true").await;
    let text = browser.text().await;
    assert!(!text.contains("dead-lettered"), "it is there before it has happened: {text}");
}

/// Rehearses the failures with a reason, and waits for the summary.
pub(crate) async fn rehearse(browser: &Browser, reason: &str, summary: &str) {
    browser.shows(reason).await;
    browser.press_in_row(reason, "Rehearse").await;
    browser.shows(summary).await;
}

/// Replays the rehearsed letters, and waits for the summary.
pub(crate) async fn replay(browser: &Browser, why: &str, summary: &str) {
    browser.enter("#start input[name=why]", why).await;
    browser.press("Start the replay").await;
    browser.shows(summary).await;
}
