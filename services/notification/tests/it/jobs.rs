//! `/jobs` on the admin port: listing jobs, and changing many at once.

use chassis::RunningService;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::House;

struct Admin<'a>(&'a RunningService);

impl Admin<'_> {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = Client::new().request(method, format!("http://{}{path}", self.0.admin));
        let request = request.bearer_auth("operator");
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn ids(&self, query: &str) -> Vec<Uuid> {
        let page = self.get(&format!("/jobs?{query}")).await;
        let jobs = page["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect()
    }
}

/// Inserts failed jobs of a kind without a handler, so that they stay waiting once they are
/// retried. Returns their ids, oldest first.
async fn failed(house: &House, count: u8) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for number in 0..count {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into job (id, kind, payload, subject, unique_key, failed_at)
             values ($1, 'print', '{}', $2, $3, now())",
        )
        .bind(id)
        .bind(format!("s{}", number % 2))
        .bind((number < 2).then_some("one"))
        .execute(&house.pool)
        .await
        .unwrap();
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn jobs_are_listed_page_by_page_and_changed_in_bulk_with_acts_that_say_so() {
    let house = House::empty().await;
    let running = house.start().await;
    let admin = Admin(&running);
    let ids = failed(&house, 5).await;
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(admin.ids("kind=print&state=failed").await, newest_first);
    let page = admin.get("/jobs?kind=print&limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = admin.ids(&format!("kind=print&limit=3&cursor={cursor}")).await;
    assert_eq!(rest, newest_first[2..]);
    assert_eq!(admin.get("/jobs?kind=none").await, json!({ "jobs": [], "next_cursor": null }));

    // Two jobs have the same unique key, so only one of them may wait.
    let all = json!({ "filter": { "kind": "print" }, "why": "the printer is back" });
    let retried = admin.post("/jobs/retry", &all).await;
    assert_eq!(retried, (200, json!({ "jobs": 4, "skipped": 1 })));
    assert_eq!(admin.ids("kind=print&state=failed").await, [ids[0]]);
    assert_eq!(admin.post("/jobs/retry", &all).await.0, 409);
    let some = json!({ "ids": [ids[0], ids[3]], "why": "of a test" });
    let discarded = admin.post("/jobs/discard", &some).await;
    assert_eq!(discarded, (200, json!({ "jobs": 2, "skipped": 0 })));
    assert_eq!(admin.ids("kind=print").await.len(), 3);

    let acts = admin.get("/acts").await;
    let act = |at: usize| ["by", "act", "target", "why", "outcome"].map(|it| &acts["acts"][at][it]);
    assert_eq!(act(0)[..2], ["operator", "jobs.discard"]);
    assert_eq!(
        act(0)[2..],
        [&json!(format!("{}, {}", ids[0], ids[3])), &json!("of a test"), &json!("2 jobs")]
    );
    assert_eq!(
        act(2)[1..],
        ["jobs.retry", r#"{"kind":"print"}"#, "the printer is back", "4 jobs, 1 skipped"]
    );
    assert!(act(1)[4].as_str().unwrap().starts_with("refused: "), "{acts}");
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named_and_nothing_is_changed() {
    let house = House::empty().await;
    let running = house.start().await;
    let admin = Admin(&running);
    let ids = failed(&house, 3).await;
    let unknown = Uuid::now_v7();
    let chosen = |member: &str, value: Value| Some(json!({ member: value, "why": "a test" }));
    let both = Some(json!({ "ids": ids, "filter": {}, "why": "a test" }));
    for (path, body, expected, message) in [
        ("/jobs?state=lost", None, 400, "lost"),
        ("/jobs?before=1", None, 400, "before"),
        ("/jobs?limit=0", None, 400, "limit"),
        ("/jobs?limit=1001", None, 400, "limit"),
        ("/jobs?cursor=1", None, 400, "cursor"),
        ("/jobs?until=now", None, 400, "until"),
        ("/jobs/1", None, 404, "UUID"),
        ("/jobs/retry", both, 422, "give either ids or filter"),
        ("/jobs/retry", Some(json!({ "why": "a test" })), 422, "give either ids or filter"),
        ("/jobs/retry", chosen("ids", json!([])), 409, "at least one job"),
        ("/jobs/retry", chosen("ids", json!([1])), 422, "ids[0]"),
        ("/jobs/retry", chosen("ids", json!([ids[0], unknown])), 404, "there is no job"),
        ("/jobs/discard", chosen("ids", json!([ids[0], unknown])), 404, "there is no job"),
        ("/jobs/discard", chosen("filter", json!({ "state": "lost" })), 422, "filter.state"),
        ("/jobs/discard", chosen("filter", json!({ "tenant": "acme" })), 422, "tenant"),
        ("/jobs/discard", chosen("filter", json!({ "until": "now" })), 422, "filter.until"),
        ("/jobs/discard", chosen("filter", json!({ "kind": "a\0" })), 409, "none of these jobs"),
        ("/jobs/discard", chosen("filter", json!({ "state": "running" })), 409, "none of these"),
        ("/jobs/retry", chosen("filter", json!({ "state": "waiting" })), 409, "has failed"),
        ("/jobs/discard", Some(json!({ "ids": ids })), 422, "why"),
        ("/jobs/discard", Some(json!({ "ids": ids, "why": " " })), 422, "why"),
    ] {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let (status, problem) = admin.ask(method, path, body.as_ref()).await;
        assert_eq!(status, expected, "{path} {body:?}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(message), "{message}: {problem}");
    }
    let url = format!("http://{}/jobs/discard", running.admin);
    let without_token = Client::new().post(url).json(&json!({ "ids": ids, "why": "w" }));
    assert_eq!(without_token.send().await.unwrap().status(), 401);
    assert_eq!(admin.ids("state=failed").await.len(), 3);
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn a_change_that_stops_halfway_says_how_far_it_came() {
    let house = House::empty().await;
    let running = house.start().await;
    let admin = Admin(&running);
    failed(&house, 1).await;
    sqlx::query(
        "insert into job (id, kind, payload, failed_at)
         select gen_random_uuid(), 'print', '{}', now() from generate_series(1, 1500)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    // Jobs are changed newest first, in chunks of 1,000. This one is in the second chunk.
    let mut tx = house.pool.begin().await.unwrap();
    let last = "select id from job where id = (select min(id::text)::uuid from job) for update";
    sqlx::query(last).execute(&mut *tx).await.unwrap();
    let all = json!({ "filter": { "kind": "print" }, "why": "a test" });
    let (status, problem) = admin.post("/jobs/discard", &all).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("after 1000 jobs"), "{problem}");
    let outcome = admin.get("/acts").await["acts"][0]["outcome"].clone();
    assert!(outcome.as_str().unwrap().starts_with("failed: "), "{outcome}");
    tx.rollback().await.unwrap();
    let (status, rest) = admin.post("/jobs/discard", &all).await;
    assert_eq!((status, &rest["jobs"]), (200, &json!(501)));
    assert!(running.shutdown().await);
}
