//! Stale events in the flows that they belong to.

use sandbox::testing::eventually;
use serde_json::Value;

use crate::house::{House, PATIENCE, post_event, story};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_superseded_is_told_so() {
    testbed::traced("analytics");
    let house = House::empty().await;
    let running = house.start().await;
    let story = story("acme", "EUR", 1_000, "2026-11-20T10:00:00Z");
    post_event(&running, &story.completed).await;
    post_event(&running, &story.updated).await;
    let id = story.updated.envelope.id.as_str();
    let outcomes = eventually("the outcomes of both", PATIENCE, async || {
        let url = format!("http://{}/flows/{}", running.admin, story.updated.subject());
        let flow: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let steps = flow["steps"].as_array().unwrap().iter();
        let steps = steps.filter(|it| it["kind"] == "process" && it["group"] == "analytics");
        let outcomes: Vec<_> =
            steps.map(|it| (it["event_id"].clone(), it["outcome"].clone())).collect();
        (outcomes.len() == 2).then_some(outcomes)
    })
    .await;
    assert_eq!(outcomes[0].1, "processed");
    assert_eq!(outcomes[1], (id.into(), "superseded".into()));
    running.shutdown().await;
}
