//! The services' contracts, without a network and under the content security policy of all pages.

use browser::Browser;

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn each_interface_opens_in_swagger_ui_and_nothing_in_it_breaks_the_policy() {
    let house = House::start().await;
    let browser = Browser::start().await;
    for (service, path) in [
        ("order", "/orders/{id}/cancel"),
        ("billing", "/invoices"),
        ("notification", "/webhooks"),
        ("analytics", "/revenue"),
    ] {
        browser.goto(&house.url("/api")).await;
        browser.press(service).await;
        browser.shows(path).await;
        // The operation can be opened, so its schemas resolve and its icons load.
        browser.click(".opblock-summary-control").await;
        browser.shows("Problem").await;
        let failed = "return document.querySelectorAll('.errors-wrapper').length";
        assert_eq!(browser.run(failed).await, 0, "{service}: Swagger UI shows errors");
    }
    browser.picture("contracts-http").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_with_who_publishes_and_who_consumes_them() {
    let house = House::start().await;
    let mut browser = Browser::start().await;
    browser.expect("favicon.ico"); // The page is no HTML.
    browser.goto(&house.url("/api")).await;
    browser.press("topics and messages").await;
    browser.shows("billing, notification").await;
    browser.shows("kafka_dlt-original-offset").await;
    browser.picture("contracts-events").await;
    browser.press("asyncapi.json").await;
    browser.shows("\"asyncapi\": \"3.1.0\"").await;
    browser.close().await;
}
