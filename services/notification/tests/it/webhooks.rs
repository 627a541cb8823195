use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chassis::RunningService;
use hmac::{Hmac, KeyInit, Mac};
use playground::{Behaviour, Received, ThirdParty};
use reqwest::{Client, Method};
use sandbox::testing::eventually;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::house::{
    House, PATIENCE, ask, cancelled, completed, credited, deliveries, get, invoiced, register,
    until_delivery,
};

/// Starts a service that may deliver webhooks to this third party.
pub(crate) async fn started() -> (House, ThirdParty, RunningService) {
    let third_party = ThirdParty::start().await.unwrap();
    let mut house = House::empty().await;
    house.webhooks.allow = third_party.address().to_string().parse().unwrap();
    let running = house.start().await;
    (house, third_party, running)
}

fn shop(third_party: &ThirdParty) -> String {
    format!("{}/webhooks/shop", third_party.url())
}

async fn of_order(running: &RunningService, order: &str) -> Vec<Value> {
    deliveries(running, &format!("order_id={order}")).await
}

pub(crate) fn is_signed(received: &Received, secret: &str) -> bool {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, at) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    mac.update(format!("{id}.{at}.{}", received.body).as_bytes());
    let wanted = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    received.header("webhook-signature").split(' ').any(|signature| signature == wanted)
}

#[tokio::test]
async fn a_tenants_events_are_told_signed_and_once_each() {
    let (house, third_party, running) = started().await;
    let webhook = register(&running, &shop(&third_party)).await;
    let completed = completed("acme");
    for event in [&completed, &completed, &invoiced(&completed), &crate::house::completed("globex")]
    {
        house.send(event).await;
    }
    let order = completed.subject();
    let delivered = eventually("both are delivered", PATIENCE, async || {
        let deliveries = of_order(&running, order).await;
        let all = deliveries.len() == 2 && deliveries.iter().all(|it| it["status"] == "delivered");
        all.then_some(deliveries)
    })
    .await;
    assert_eq!(delivered[0]["attempts"][0]["status"], 204);
    let received = third_party.received();
    assert_eq!(received.len(), 2, "each once, and none of another tenant: {received:?}");
    let types: Vec<_> = received
        .iter()
        .map(|it| serde_json::from_str::<Value>(&it.body).unwrap())
        .map(|body| (body["type"].as_str().unwrap().to_owned(), body["data"]["order_id"].clone()))
        .collect();
    for event_type in ["order.completed", "invoice.issued"] {
        assert!(types.contains(&(event_type.into(), json!(order))), "{types:?}");
    }
    let secret = webhook["secret"].as_str().unwrap();
    assert!(received.iter().all(|received| is_signed(received, secret)), "{received:?}");
    let (_, listed) = get(&running, "/webhooks", "demo-acme").await;
    assert_eq!(listed["webhooks"][0]["id"], webhook["id"]);
    assert!(!listed.to_string().contains("whsec_"), "a secret is shown once");
    assert_eq!(
        get(&running, "/webhooks", "demo-globex").await.1,
        json!({ "webhooks": [], "next_cursor": null })
    );
    running.shutdown().await;
}

#[tokio::test]
async fn a_webhook_is_told_of_cancellations_and_credit_notes_if_it_subscribed_to_them() {
    let (house, third_party, running) = started().await;
    let url = |path: &str| format!("{}/webhooks/{path}", third_party.url());
    let some = json!({ "url": url("some"), "events": ["order.cancelled", "invoice.credited"] });
    let others = json!({ "url": url("others"), "events": ["order.completed", "invoice.issued"] });
    for webhook in [some, others] {
        let (status, webhook) = ask(&running, Method::POST, "/webhooks", &webhook).await;
        assert_eq!(status, 201, "{webhook}");
    }
    let completed = completed("acme");
    let invoiced = invoiced(&completed);
    for event in [&completed, &cancelled(&completed), &invoiced, &credited(&invoiced)] {
        house.send(event).await;
    }
    eventually("all are delivered", PATIENCE, async || {
        let deliveries = deliveries(&running, &format!("order_id={}", completed.subject())).await;
        let all = deliveries.len() == 4 && deliveries.iter().all(|it| it["status"] == "delivered");
        all.then_some(())
    })
    .await;
    let received_types = |path: &str| {
        let received = third_party.received();
        let received = received.iter().filter(|it| it.path.ends_with(path));
        let event_type = |body: &str| serde_json::from_str::<Value>(body).unwrap()["type"].clone();
        let mut types: Vec<_> = received.map(|it| event_type(&it.body).to_string()).collect();
        types.sort_unstable();
        types
    };
    assert_eq!(received_types("/some"), ["\"invoice.credited\"", "\"order.cancelled\""]);
    assert_eq!(received_types("/others"), ["\"invoice.issued\"", "\"order.completed\""]);
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_that_fails_is_tried_four_times_and_then_waits_for_the_operator() {
    let (house, third_party, running) = started().await;
    register(&running, &shop(&third_party)).await;
    third_party.behave(Behaviour { failure_rate: 1.0, status: 503, ..Behaviour::default() });
    let event = completed("acme");
    house.send(&event).await;
    let order = event.subject();
    let failed = until_delivery(&house, &running, order, "failed").await;
    let attempts = failed[0]["attempts"].as_array().unwrap();
    assert_eq!(
        attempts.iter().map(|it| it["status"].clone()).collect::<Vec<_>>(),
        vec![json!(503); 4]
    );
    let ids: Vec<_> =
        third_party.received().iter().map(|it| it.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, vec![failed[0]["id"].as_str().unwrap(); 4], "the same id each time");

    third_party.behave(Behaviour::default());
    let admin = format!("http://{}/jobs", running.admin);
    let client = Client::new();
    let list = client.get(format!("{admin}?state=failed")).send().await.unwrap();
    let anonymous: Value = list.json().await.unwrap();
    assert_eq!(anonymous["jobs"][0]["subject"], order);
    let list = client.get(format!("{admin}?state=failed")).bearer_auth("operator");
    let jobs: Value = list.send().await.unwrap().json().await.unwrap();
    let error = jobs["jobs"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("503"), "{jobs}");
    // Errors may quote an address.
    let line = error.lines().next().unwrap();
    assert!(!anonymous.to_string().contains(line), "{anonymous}");
    assert_eq!(anonymous["jobs"][0]["last_error"], "(the operator's token shows it)");
    let retry = format!("{admin}/{}/retry", jobs["jobs"][0]["id"].as_str().unwrap());
    for request in [client.post(&retry), client.get(retry.trim_end_matches("/retry"))] {
        assert_eq!(request.send().await.unwrap().status(), 401, "the operator's token is wanted");
    }
    let retried = client.post(&retry).bearer_auth("operator").send().await.unwrap();
    assert_eq!(retried.status(), 202);
    until_delivery(&house, &running, order, "delivered").await;
    let again = client.post(&retry).bearer_auth("operator").send().await.unwrap();
    assert_eq!(again.status(), 404, "a job that is done leaves no record");
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_that_fails_now_and_then_loses_nothing() {
    const ORDERS: usize = 40;
    let (house, third_party, running) = started().await;
    register(&running, &shop(&third_party)).await;
    third_party.behave(Behaviour { failure_rate: 0.1, ..Behaviour::default() });
    for _ in 0..ORDERS {
        house.send(&completed("acme")).await;
    }
    eventually("all deliveries", PATIENCE, async || {
        sqlx::query("update job set run_at = now() where failed_at is null and worker is null")
            .execute(&house.pool)
            .await
            .unwrap();
        let delivered: i64 =
            sqlx::query_scalar("select count(*) from deliveries where status = 'delivered'")
                .fetch_one(&house.pool)
                .await
                .unwrap();
        (delivered == i64::try_from(ORDERS).unwrap()).then_some(())
    })
    .await;
    running.shutdown().await;
}

#[tokio::test]
async fn redirects_floods_and_a_webhook_that_is_gone() {
    let (house, third_party, running) = started().await;
    let webhook = register(&running, &shop(&third_party)).await;
    let inside = format!("{}/inventory", third_party.url());
    third_party.behave(Behaviour { redirect_to: Some(inside), ..Behaviour::default() });
    let event = completed("acme");
    house.send(&event).await;
    let failed = until_delivery(&house, &running, event.subject(), "failed").await;
    let error = failed[0]["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("302") && error.contains("not followed"), "{error}");
    assert!(third_party.received().iter().all(|it| it.path == "/webhooks/shop"));

    third_party.behave(Behaviour { body_bytes: 500_000_000, ..Behaviour::default() });
    let event = completed("acme");
    house.send(&event).await;
    let delivered = until_delivery(&house, &running, event.subject(), "delivered").await;
    assert_eq!(delivered[0]["attempts"][0]["status"], 200, "its status is all that counts");

    third_party.behave(Behaviour { failure_rate: 1.0, ..Behaviour::default() });
    let event = completed("acme");
    house.send(&event).await;
    eventually("a first try", PATIENCE, async || {
        let deliveries = of_order(&running, event.subject()).await;
        deliveries.iter().any(|it| it["attempts"] != json!([])).then_some(())
    })
    .await;
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    assert_eq!(ask(&running, Method::DELETE, &path, &json!({})).await.0, 204);
    assert_eq!(ask(&running, Method::DELETE, &path, &json!({})).await.0, 404);
    until_delivery(&house, &running, event.subject(), "cancelled").await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_whose_response_does_not_end_got_the_delivery() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 1_024]).await;
            let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n.\r\n";
            let _ = stream.write_all(begun).await;
            open.push(stream);
        }
    });
    let mut house = House::empty().await;
    house.webhooks.allow = address.to_string().parse().unwrap();
    let running = house.start().await;
    register(&running, &format!("http://{address}/shop")).await;
    let event = completed("acme");
    house.send(&event).await;
    let attempts = eventually("an attempt", PATIENCE, async || {
        let attempts = of_order(&running, event.subject()).await.first()?["attempts"].clone();
        (attempts != json!([])).then_some(attempts)
    })
    .await;
    assert_eq!((&attempts[0]["status"], &attempts[0]["error"]), (&json!(200), &json!(null)));
    until_delivery(&house, &running, event.subject(), "delivered").await;
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn a_target_that_hangs_is_given_up_and_holds_up_no_e_mail() {
    let (house, third_party, running) = started().await;
    register(&running, &shop(&third_party)).await;
    third_party.behave(Behaviour { hang: true, ..Behaviour::default() });
    let event = completed("acme");
    house.send(&event).await;
    house.until("the e-mail", 1, |row| row.sent).await;
    let attempts = eventually("an attempt that took too long", PATIENCE, async || {
        let deliveries = of_order(&running, event.subject()).await;
        let attempts = deliveries.first()?["attempts"].as_array()?.clone();
        (!attempts.is_empty()).then_some(attempts)
    })
    .await;
    assert!(attempts[0]["ms"].as_u64().unwrap() >= 10_000, "{attempts:?}");
    assert!(running.shutdown().await, "it drains in time");
}

#[tokio::test]
async fn what_leads_nowhere_or_inside_is_not_registered() {
    let (_house, _third_party, running) = started().await;
    for url in [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "http://[::1]:8090/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "ftp://example.com/",
        "http://1.1.1.1/",
        "https://user:pass@example.com/",
        "https://1.1.1.1/#there",
        "http://nowhere.invalid/",
        "example.com",
        "",
    ] {
        let (status, problem) =
            ask(&running, Method::POST, "/webhooks", &json!({ "url": url })).await;
        assert_eq!(status, 422, "{url}: {problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("url: "), "{problem}");
    }
    let detail = async |host: &str| {
        let body = json!({ "url": format!("https://{host}/") });
        let (_, problem) = ask(&running, Method::POST, "/webhooks", &body).await;
        problem["detail"].as_str().unwrap().replace(host, "host")
    };
    assert_eq!(detail("localhost").await, detail("nowhere.invalid").await, "whether it exists");
    let unknown = json!({ "url": "https://1.1.1.1/", "events": ["order.lost"] });
    assert_eq!(ask(&running, Method::POST, "/webhooks", &unknown).await.0, 422);
    let sound = json!({ "url": "https://1.1.1.1/", "events": ["order.completed"] });
    assert_eq!(ask(&running, Method::POST, "/webhooks", &sound).await.0, 201);
    running.shutdown().await;
}
