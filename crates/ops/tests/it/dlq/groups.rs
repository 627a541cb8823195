//! `orderflow dlq acknowledge`, `ignore` and `reopen`.

use serde_json::{Value, json};

use crate::fake::{Fake, Known, check, command, group_of};
use crate::output::run;

async fn with(groups: Vec<Value>) -> Fake {
    Fake::start(Known { groups, ..Known::default() }).await
}

#[tokio::test]
async fn what_is_said_of_a_group_is_said_in_every_service_that_has_it() {
    let shared = |group| vec![group_of(group, "f1", 3, "open")];
    let (billing, analytics) = (with(shared("billing")).await, with(shared("analytics")).await);
    let order = with(vec![]).await;
    let services =
        [("order", order.address), ("billing", billing.address), ("analytics", analytics.address)];
    let ran = run(command(&services, &["acknowledge", "f1", "--note", "at noon"])).await;
    check(&ran, 0, &["billing   order.completed   acknowledged", "analytics   order.completed"]);
    let body = json!({ "status": "acknowledged", "note": "at noon" });
    for fake in [&billing, &analytics] {
        assert_eq!(fake.bodies("PUT", "/dead-letters/groups/f1"), std::slice::from_ref(&body));
    }
    let ran = run(command(&services, &["ignore", "f1", "--group", "billing", "--json"])).await;
    check(&ran, 0, &["\"status\":\"ignored\""]);
    assert_eq!(billing.bodies("PUT", "/")[1], json!({ "status": "ignored" }));
    assert_eq!(analytics.bodies("PUT", "/").len(), 1, "--group narrows it");
    let ran = run(command(&services, &["reopen", "f1"])).await;
    check(&ran, 0, &["billing   order.completed   open"]);
    assert_eq!(analytics.bodies("PUT", "/")[1], json!({ "status": "open" }));
}

#[tokio::test]
async fn an_unknown_group_and_a_service_that_does_not_answer_are_named() {
    let fake = with(vec![group_of("billing", "f1", 3, "open")]).await;
    check(&fake.run(&["ignore", "f9"]).await, 2, &["could not set the group f9", "Next: "]);
    let mut stopped = with(vec![]).await;
    stopped.stop().await;
    let services = [("order", stopped.address), ("billing", fake.address)];
    let ran = run(command(&services, &["ignore", "f1"])).await;
    check(&ran, 1, &["billing   order.completed   ignored", "order does not answer"]);
    // The service that does not answer may know the group.
    check(&run(command(&services, &["ignore", "f9"])).await, 1, &["order does not answer"]);
}
