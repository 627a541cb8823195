//! Jobs as steps of the flow that enqueued them.

use chassis::RunningService;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, completed_to};
use crate::sink::Sink;

async fn flow(running: &RunningService, id: &str) -> Value {
    ask(running, &format!("/flows/{id}"), "operator").await
}

async fn ask(running: &RunningService, path: &str, token: &str) -> Value {
    let url = format!("http://{}{path}", running.admin);
    reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap().json().await.unwrap()
}

fn jobs<'a>(flow: &'a Value, list: &str) -> Vec<&'a Value> {
    flow[list].as_array().unwrap().iter().filter(|it| it["kind"] == "job").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_at_a_job_is_a_step_and_the_job_is_open_until_it_is_done() {
    testbed::traced("notification");
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

    let flow = eventually("both attempts", PATIENCE, async || {
        let flow = flow(&running, "flow-17").await;
        (jobs(&flow, "steps").len() == 2).then_some(flow)
    })
    .await;
    let attempts = jobs(&flow, "steps");
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
    assert_eq!(jobs(&flow, "open"), [] as [&Value; 0]);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_an_operators_to_read_in_jobs_and_flows_alike() {
    testbed::traced("notification");
    let house = House::empty().await;
    let (_sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    let event = completed_to("acme", "later@example.com");
    house.send(&event).await;
    let path = format!("/flows/{}", event.subject());
    let errors = async |token| {
        let list = ask(&running, "/jobs", token).await;
        let flow = ask(&running, &path, token).await;
        let of_jobs = list["jobs"].as_array().unwrap().iter().map(|it| it["last_error"].clone());
        let of_flow = ["open", "steps"].into_iter().flat_map(|list| jobs(&flow, list));
        let of_flow = of_flow.map(|it| it["error"].clone());
        of_jobs.chain(of_flow).filter(|it| !it.is_null()).collect::<Vec<_>>()
    };
    eventually("the error of a job, in its flow and as a step", PATIENCE, async || {
        let found = errors("operator").await;
        let is_whole = |it: &Value| it.as_str().unwrap().contains("try later");
        (found.len() == 3 && found.iter().all(is_whole)).then_some(())
    })
    .await;
    let found = errors("a stranger's").await;
    assert_eq!(found, ["(the operator's token shows it)"; 3]);
    running.shutdown().await;
}
