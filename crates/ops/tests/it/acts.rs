//! `orderflow acts`.

use serde_json::{Value, json};

use crate::fake::{Fake, Known, act_of, check, orderflow};
use crate::output::run;

async fn with(acts: Vec<Value>) -> Fake {
    Fake::start(Known { acts, page: Some(2), ..Known::default() }).await
}

async fn two() -> (Fake, Fake) {
    let billing = with(vec![
        act_of(7, "ada", "jobs.retry"),
        act_of(5, "grace", "subscription.pause"),
        act_of(1, "ada", "jobs.discard"),
    ]);
    let order = with(vec![act_of(6, "ada", "subscription.resume"), act_of(2, "ada", "jobs.retry")]);
    (billing.await, order.await)
}

fn targets(text: &str) -> Vec<u32> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("   target       target "));
    lines.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test]
async fn acts_of_all_services_are_merged_and_filtered() {
    let (billing, order) = two().await;
    let services = [("billing", billing.address), ("order", order.address)];
    let list = async |arguments: &[&str]| {
        let ran = run(orderflow(&services, &[&["acts"], arguments].concat())).await;
        check(&ran, 0, &[]);
        targets(&ran.out)
    };
    assert_eq!(list(&[]).await, [7, 6, 5, 2, 1]);
    assert_eq!(list(&["--limit", "2"]).await, [7, 6]);
    assert_eq!(list(&["--by", "ada"]).await, [7, 6, 2, 1]);
    assert_eq!(list(&["--act", "jobs"]).await, [7, 2, 1]);
    assert_eq!(list(&["--act", "jobs", "--limit", "1"]).await, [7]);
    assert_eq!(list(&["--service", "order"]).await, [6, 2]);
    assert_eq!(list(&["--since", "2026-11-25T10:05:00Z"]).await, [7, 6, 5]);
    assert_eq!(list(&["--since", "2026-11-25T11:05:00+01:00", "--act", "jobs"]).await, [7]);
    let ran = run(orderflow(&services, &["acts", "--limit", "2"])).await;
    check(&ran, 0, &["2026-11-25 10:07:00 UTC   billing   ada   jobs.retry", "There are more"]);
    let ran = run(orderflow(&services, &["acts", "--since", "2026-11-26T00:00:00Z"])).await;
    check(&ran, 0, &["There are no such acts."]);
}

#[tokio::test]
async fn json_names_the_service_and_says_whether_it_is_complete() {
    let (billing, order) = two().await;
    let services = [("billing", billing.address), ("order", order.address)];
    let json = async |arguments: &[&str]| -> Value {
        let ran = run(orderflow(&services, &[&["acts", "--json"], arguments].concat())).await;
        ran.json()
    };
    let some = json(&["--limit", "2"]).await;
    let mut first = act_of(7, "ada", "jobs.retry");
    first["service"] = "billing".into();
    assert_eq!((&some["acts"][0], &some["is_complete"]), (&first, &json!(false)));
    let all = json(&["--since", "2026-11-25T10:06:00Z"]).await;
    assert_eq!((all["acts"].as_array().unwrap().len(), &all["is_complete"]), (2, &json!(true)));
}

#[tokio::test]
async fn a_service_that_does_not_answer_and_a_malformed_time_are_named() {
    let (billing, mut order) = two().await;
    order.stop().await;
    let services = [("billing", billing.address), ("order", order.address)];
    let ran = run(orderflow(&services, &["acts"])).await;
    check(&ran, 1, &["order does not answer"]);
    assert_eq!(targets(&ran.out), [7, 5, 1]);
    let ran = run(orderflow(&services, &["acts", "--since", "yesterday"])).await;
    check(&ran, 2, &["--since yesterday", "1h"]);
    assert_eq!(ran.out, "");
}
