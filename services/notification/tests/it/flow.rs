//! Jobs as steps of the flow that asked for them.

use std::sync::LazyLock;

use chassis::RunningService;
use sandbox::testing::eventually;
use serde_json::{Value, json};
use telemetry::{LogFormat, Tracing};

use crate::house::{House, PATIENCE, completed_to};
use crate::sink::Sink;

static TRACING: LazyLock<Tracing> =
    LazyLock::new(|| telemetry::init("notification", LogFormat::Silent).unwrap());

async fn flow(running: &RunningService, id: &str) -> Value {
    let answer = reqwest::get(format!("http://{}/flows/{id}", running.admin)).await.unwrap();
    answer.json().await.unwrap()
}

fn jobs<'a>(flow: &'a Value, list: &str) -> Vec<&'a Value> {
    flow[list].as_array().unwrap().iter().filter(|it| it["kind"] == "job").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_at_a_job_is_a_step_and_the_job_is_open_until_it_is_done() {
    LazyLock::force(&TRACING);
    let house = House::empty().await;
    let (_sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    let event = completed_to("acme", "later@example.com");
    house.send(&event).await;
    let waiting = eventually("a job that waits for its retry", PATIENCE, async || {
        let flow = flow(&running, event.subject()).await;
        let open = jobs(&flow, "open").into_iter().find(|it| it["state"] == "waiting").cloned();
        open.filter(|it| it["attempts"] == 1)
    })
    .await;
    assert_eq!(waiting["subject"], event.subject());
    assert!(waiting["error"].is_string() && waiting["due_at"].is_string(), "{waiting}");

    let told = eventually("both attempts", PATIENCE, async || {
        let flow = flow(&running, "flow-17").await;
        (jobs(&flow, "steps").len() == 2).then_some(flow)
    })
    .await;
    let attempts = jobs(&told, "steps");
    for (n, outcome) in [(1, "retry"), (2, "succeeded")] {
        let step = attempts[n - 1];
        assert_eq!((&step["attempt"], &step["outcome"]), (&json!(n), &json!(outcome)), "{step}");
        assert_eq!(
            (&step["job_id"], &step["job_kind"]),
            (&waiting["job_id"], &waiting["job_kind"])
        );
        assert_eq!(step["subject"], event.subject());
        assert_eq!(step["error"].is_string(), n == 1, "{step}");
    }
    assert_eq!(jobs(&told, "open"), [] as [&Value; 0]);
    running.shutdown().await;
}
