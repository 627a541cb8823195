//! Pages that are refreshed by signals.

use std::time::Duration;

use crate::house::House;
use crate::service::{group_of, job_of};
use browser::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_appears_by_itself_and_what_is_selected_and_typed_stays() {
    let house = House::start().await;
    house.service.known().jobs = vec![job_of(1, "send-email", "failed")];
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs")).await;
    browser.click("#select-01a20a9a-7779-774a-8232-000000000001").await;
    browser.enter("#jobs-form input[name=why]", "half a rea").await;
    house.service.known().jobs.insert(0, job_of(2, "deliver-webhook", "failed"));
    browser.shows("order-2").await;
    let kept = "const box = document.getElementById('select-01a20a9a-7779-774a-8232-000000000001');
        const why = document.querySelector('#jobs-form input[name=why]');
        return box.checked && why.value === 'half a rea' && document.activeElement === why";
    assert_eq!(browser.run(kept).await, true);
    browser.shows("1 selected").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_beyond_the_newest_change_without_a_reload() {
    let house = House::start().await;
    house.service.known().jobs = (0..70).map(|it| job_of(it, "send-email", "waiting")).collect();
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?subject=order-69")).await;
    browser.shows("waiting").await;
    house.service.known().jobs[69]["attempts"] = 4_321.into();
    browser.shows("4321").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_grows_from_just_now() {
    let house = House::start().await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/history")).await;
    let added = "const time = document.createElement('time');
        time.dataset.age = '';
        time.dateTime = new Date().toISOString();
        time.id = 'age';
        time.textContent = 'just now';
        document.getElementById('main').append(time);
        return true";
    browser.run(added).await;
    let grown = "return document.getElementById('age').textContent.endsWith(' s ago')";
    browser.until("an age in seconds", grown).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_the_page_and_its_end_shows_what_was_missed() {
    let house = House::start().await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/")).await;
    browser.shows("All is well").await;
    browser.press("Live").await;
    browser.shows("Paused").await;
    house.service.known().groups = vec![group_of("no rate", 3)];
    // Longer than two polls.
    tokio::time::sleep(Duration::from_secs(11)).await;
    browser.shows("All is well").await;
    browser.press("Paused").await;
    browser.shows("3 dead letters wait").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_outlives_a_restart_of_the_server_and_so_does_the_sign_in() {
    let mut house = House::with(&[("CONSOLE_SECRET", "one and the same")]).await;
    let mut browser = Browser::start().await;
    for part in [
        "ERR_CONNECTION_REFUSED",
        "ERR_EMPTY_RESPONSE",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "Failed to fetch",
    ] {
        browser.expect(part);
    }
    browser.goto(&house.url("/sign-in?back=%2Fjobs%3Fstate%3Dfailed")).await;
    browser.enter("#token", "ada-token").await;
    browser.press("Sign in").await;
    browser.shows("No such jobs").await;
    house.stop().await;
    browser.shows("Reconnecting").await;
    house.service.known().jobs = vec![job_of(7, "send-email", "failed")];
    house.start_again().await;
    browser.shows("order-7").await;
    browser.shows("Live").await;
    browser.is_at("/jobs?state=failed").await;
    browser.goto(&house.url("/")).await;
    browser.shows("Sign out").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_leads_to_the_sign_in_and_back() {
    let own = [("CONSOLE_ADDR", "0.0.0.0:{port}"), ("CONSOLE_PLAIN_HTTP", "on")];
    // Without a secret the key is random.
    let mut house = House::with(&own).await;
    let mut browser = Browser::start().await;
    for part in ["ERR_", "Failed to fetch", "401 (Unauthorized)", "failed with status 401"] {
        browser.expect(part);
    }
    browser.goto(&house.url("/jobs?state=failed")).await;
    browser.enter("#token", "ada-token").await;
    browser.press("Sign in").await;
    browser.shows("No such jobs").await;
    house.stop().await;
    house.start_again().await;
    browser.shows("Operator's token").await;
    browser.is_at("/sign-in?back=%2Fjobs%3Fstate%3Dfailed").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_changes_does_not_flood_the_server() {
    let house = House::start().await;
    house.service.known().jobs = vec![job_of(1, "send-email", "failed")];
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs?subject=order-1")).await;
    let flood = "for (let i = 0; i < 500; i++) htmx.trigger('#live', 'jobs'); return true";
    let before = house.service.known().job_lists;
    browser.run(flood).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = house.service.known().job_lists - before;
    assert!((1..=4).contains(&asked), "{asked} requests");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tabs_than_a_browser_has_connections_are_answered_and_the_one_in_sight_is_live() {
    let house = House::start().await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/jobs")).await;
    // Tabs in the background, as opened with the middle mouse button.
    for _ in 0..8 {
        browser.open_in_background(&house.url("/jobs")).await;
    }
    browser.goto(&house.url("/history")).await;
    browser.shows("Live").await;
    browser.goto(&house.url("/jobs")).await;
    house.service.known().jobs = vec![job_of(7, "send-email", "failed")];
    browser.shows("order-7").await;
    browser.show_last_tab().await;
    browser.shows("order-7").await;
    browser.shows("Live").await;
    house.service.known().jobs.push(job_of(8, "send-email", "failed"));
    browser.shows("order-8").await;
    browser.close().await;
}
