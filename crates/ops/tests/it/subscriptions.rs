//! `orderflow subscriptions`.

use serde_json::{Value, json};

use crate::fake::{Fake, Known, check, orderflow};
use crate::output::run;

fn subscription(group: &str, state: &str) -> Value {
    json!({
        "group": group, "state": state, "event_types": ["order.completed"], "topics": [], "paused": null, "breakers": [],
        "instances": [{ "id": "0193abcd-1", "state": state, "started_at": "2026-11-25T10:00:00Z",
                        "seen_at": "2026-11-25T10:00:00Z" }],
    })
}

async fn with(subscriptions: Vec<Value>) -> Fake {
    Fake::start(Known { subscriptions: Some(subscriptions), ..Known::default() }).await
}

#[tokio::test]
async fn what_holds_a_subscription_up_is_shown_and_is_not_well() {
    let mut open = subscription("billing", "breaker open: order.completed");
    open["breakers"] = json!([{ "event_type": "order.completed", "fingerprint": "f", "reason": "no such\u{1b} table",
        "letters": 20, "last_at": "2026-11-25T10:00:00Z", "opened_at": "2026-11-25T10:00:00Z" }]);
    let billing = with(vec![open]).await;
    let order = with(vec![subscription("order", "running")]).await;
    let services = [("billing", billing.address), ("order", order.address)];
    for arguments in [&["subscriptions"][..], &["subscriptions", "list"]] {
        let ran = run(orderflow(&services, arguments)).await;
        let parts = [
            "billing: breaker open: order.completed\n",
            "breaker      order.completed, open since 2026-11-25 10:00:00 UTC",
            "20 dead letters: no such\\x1b table",
            "order: running\n",
            " ago: running",
        ];
        check(&ran, 1, &parts);
    }
    check(&run(orderflow(&services[1..], &["subscriptions"])).await, 0, &["order: running"]);
}

#[tokio::test]
async fn instances_that_are_gone_or_only_serve_their_api_are_no_trouble() {
    let mut replaced = subscription("billing", "running");
    replaced["instances"][0]["state"] = "gone; it was running".into();
    let mut off = subscription("order", "off: SUBSCRIBE=off");
    off["instances"][0]["state"] = "running".into();
    let all = with(vec![replaced, off]).await;
    let parts = ["gone; it was running", "off: SUBSCRIBE=off"];
    check(&all.orderflow(&["subscriptions"]).await, 0, &parts);
}

#[tokio::test]
async fn a_subscription_without_a_running_instance_is_not_well() {
    let mut gone = subscription("billing", "off: SUBSCRIBE=off");
    gone["instances"][0]["state"] = "gone; it was running".into();
    let mut off = gone.clone();
    off["instances"] = json!([]);
    for unconsumed in [gone, off] {
        let fake = with(vec![unconsumed]).await;
        let state = "billing: off: SUBSCRIBE=off";
        check(&fake.orderflow(&["subscriptions"]).await, 1, &[state]);
        check(&fake.orderflow(&["status"]).await, 1, &["subscriptions  0 of 1 running", state]);
    }
}

#[tokio::test]
async fn json_has_what_the_api_has_and_a_missing_service_is_named() {
    let billing = with(vec![subscription("billing", "running")]).await;
    let mut stopped = with(vec![]).await;
    stopped.stop().await;
    let services = [("order", stopped.address), ("billing", billing.address)];
    let ran = run(orderflow(&services, &["subscriptions", "list", "--json"])).await;
    check(&ran, 1, &["order does not answer"]);
    let document = ran.json();
    let mut expected = subscription("billing", "running");
    expected["service"] = "billing".into();
    assert_eq!(document["subscriptions"], json!([expected]));
    assert_eq!(document["is_complete"], false);
    let ran = run(orderflow(&services[1..], &["subscriptions", "--json"])).await;
    check(&ran, 0, &["\"is_complete\":true"]);
    let none = with(vec![]).await;
    check(&none.orderflow(&["subscriptions"]).await, 0, &["There are no subscriptions."]);
}

#[tokio::test]
async fn a_subscription_is_paused_resumed_and_dropped_with_a_reason() {
    let fake = with(vec![]).await;
    for (act, expected) in
        [("pause", "billing is paused"), ("resume", "billing is resumed"), ("drop", "3 rows")]
    {
        let arguments = ["subscriptions", act, "--group", "billing"];
        check(&fake.orderflow(&arguments).await, 2, &["give --why"]);
        let arguments = [&arguments[..], &["--why", "a test"]].concat();
        check(&fake.orderflow(&arguments).await, 0, &[expected]);
        let path = format!("/subscriptions/billing/{act}");
        assert_eq!(fake.bodies("POST", &path), [json!({ "why": "a test" })]);
    }
    let json = ["subscriptions", "drop", "--group", "billing", "--why", "w", "--json"];
    let ran = fake.orderflow(&json).await;
    check(&ran, 0, &[]);
    assert_eq!(ran.out, "{\"group\":\"billing\",\"rows\":3}\n");
    let unknown = ["subscriptions", "pause", "--group", "shipping", "--why", "w"];
    check(&fake.orderflow(&unknown).await, 2, &["no service is called shipping"]);
    fake.known().refuses = Some((404, "there is no subscription billing.9; there are: billing"));
    let unknown = ["subscriptions", "pause", "--group", "billing.9", "--why", "w"];
    check(&fake.orderflow(&unknown).await, 2, &["there is no subscription billing.9", "Next: "]);
}
