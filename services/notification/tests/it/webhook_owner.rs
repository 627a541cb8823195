//! Webhooks from the tenant's point of view, with targets that respond.

use std::collections::HashSet;

use chassis::RunningService;
use futures::future::join_all;
use playground::ThirdParty;
use reqwest::{Client, Method};
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{
    CONTRACT, House, PATIENCE, ask, completed, deliveries, get, post, register, until_delivery,
};
use crate::webhooks::{is_signed, started};

async fn with_key(running: &RunningService, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let request = Client::new().post(format!("http://{}{path}", running.http));
    let request = request.bearer_auth("demo-acme").header("idempotency-key", key);
    let response = CONTRACT.send(request.json(body)).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Registers URLs for `acme`, concurrently.
async fn register_at_once(running: &RunningService, urls: Vec<String>) -> Vec<(u16, Value)> {
    let client = Client::new();
    let register = async |url: String| {
        let request = client.post(format!("http://{}/webhooks", running.http));
        let request = request.bearer_auth("demo-acme").json(&json!({ "url": url }));
        let response = CONTRACT.send(request).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    join_all(urls.into_iter().map(register)).await
}

async fn all(running: &RunningService) -> Vec<Value> {
    let (_, body) = get(running, "/webhooks?limit=100", "demo-acme").await;
    body["webhooks"].as_array().unwrap().clone()
}

#[tokio::test]
async fn forty_registrations_at_once_are_twenty_webhooks() {
    let (_house, third_party, running) = started().await;
    let urls: Vec<_> = (0..40).map(|n| format!("{}/webhooks/{n}", third_party.url())).collect();
    let answers = register_at_once(&running, urls).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201; 20], vec![409; 20]].concat());
    assert_eq!(all(&running).await.len(), 20);
    running.shutdown().await;
}

#[tokio::test]
async fn a_url_is_registered_once_however_often_it_is_sent() {
    let (_house, third_party, running) = started().await;
    let url = format!("{}/webhooks/shop", third_party.url());
    let body = json!({ "url": url });
    let answers = register_at_once(&running, vec![url.clone(); 8]).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.0 == 201);
    assert_eq!((taken.len(), refused.len()), (1, 7), "{answers:?}");
    let id = taken[0].1["id"].as_str().unwrap();
    for (status, problem) in refused {
        assert_eq!(*status, 409);
        assert!(problem["detail"].as_str().unwrap().contains(id), "{problem}");
    }
    // The same URL in another spelling is refused; another tenant may register it.
    let odd = json!({ "url": url.replace("http://", "HTTP://") });
    assert_eq!(ask(&running, Method::POST, "/webhooks", &odd).await.0, 409);
    let other = Client::new().post(format!("http://{}/webhooks", running.http));
    let other = other.bearer_auth("demo-globex").json(&body).send().await.unwrap();
    assert_eq!(other.status(), 201);
    running.shutdown().await;
}

#[tokio::test]
async fn a_post_that_is_sent_again_with_its_key_takes_effect_once() {
    let (house, third_party, running) = started().await;
    let body = json!({ "url": format!("{}/webhooks/shop", third_party.url()) });
    let register = async |_: usize| with_key(&running, "/webhooks", "one", &body).await;
    let answers = join_all((0..4).map(register)).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!((answers[0].0, all(&running).await.len()), (201, 1));
    let id = answers[0].1["id"].as_str().unwrap();
    let other = json!({ "url": "https://1.1.1.1/" });
    assert_eq!(with_key(&running, "/webhooks", "one", &other).await.0, 422);

    for (what, status) in [("test", 202), ("rotate-secret", 200), ("enable", 200)] {
        let path = format!("/webhooks/{id}/{what}");
        let first = with_key(&running, &path, what, &json!({})).await;
        assert_eq!(first.0, status, "{}", first.1);
        assert_eq!(with_key(&running, &path, what, &json!({})).await, first);
    }
    let count = "select (select count(*) from deliveries) + (select count(*) from webhook_secrets)";
    let made: i64 = sqlx::query_scalar(count).fetch_one(&house.pool).await.unwrap();
    assert_eq!(made, 2, "one test, one rotation");
    running.shutdown().await;
}

#[tokio::test]
async fn a_secret_is_replaced_and_the_one_before_signs_for_a_while() {
    let (house, third_party, running) = started().await;
    let webhook = register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    let id = webhook["id"].as_str().unwrap();
    let path = format!("/webhooks/{id}/rotate-secret");
    let (status, rotated) = post(&running, &path).await;
    assert_eq!(status, 200, "{rotated}");
    assert!(rotated["previous_valid_until"].as_str().unwrap().ends_with('Z'), "{rotated}");
    let (old, new) = (webhook["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    assert_ne!(old, new);

    let deliver = async |count: usize| {
        house.send(&completed("acme")).await;
        let received = async || {
            let received = third_party.received();
            (received.len() == count).then(|| received.last().unwrap().clone())
        };
        eventually("the delivery", PATIENCE, received).await
    };
    let during = deliver(1).await;
    assert!(is_signed(&during, new) && is_signed(&during, old), "{during:?}");
    sqlx::query("update webhook_secrets set valid_until = now()")
        .execute(&house.pool)
        .await
        .unwrap();
    let after = deliver(2).await;
    assert!(is_signed(&after, new) && !is_signed(&after, old), "{after:?}");

    // Each replaced secret adds a signature, so their number is limited.
    for _ in 0..4 {
        assert_eq!(post(&running, &path).await.0, 200);
    }
    assert_eq!(post(&running, &path).await.0, 409);
    assert_eq!(post(&running, "/webhooks/nothing/rotate-secret").await.0, 404);
    running.shutdown().await;
}

#[tokio::test]
async fn a_test_delivery_arrives_signed_and_is_about_no_order() {
    let (_house, third_party, running) = started().await;
    let webhook = register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    let id = webhook["id"].as_str().unwrap();
    let (status, made) = post(&running, &format!("/webhooks/{id}/test")).await;
    assert_eq!(status, 202, "{made}");
    let path = format!("/deliveries/{}", made["id"].as_str().unwrap());
    let delivered = async || {
        let (_, shown) = get(&running, &path, "demo-acme").await;
        (shown["status"] == "delivered").then_some(shown)
    };
    let shown = eventually("it is delivered", PATIENCE, delivered).await;
    assert_eq!((&shown["type"], &shown["order_id"]), (&json!("webhook.test"), &json!(null)));
    let received = third_party.received();
    assert!(received.len() == 1 && is_signed(&received[0], webhook["secret"].as_str().unwrap()));
    let body: Value = serde_json::from_str(&received[0].body).unwrap();
    assert_eq!((&body["type"], &body["data"]["webhook_id"]), (&json!("webhook.test"), &json!(id)));
    running.shutdown().await;
}

/// Reads a list to its end in pages of two, and checks that no item is repeated.
async fn paged(running: &RunningService, path: &str, plural: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(running, &format!("{path}limit=2{cursor}"), "demo-acme").await;
        assert_eq!(status, 200, "{page}");
        rows.extend(page[plural].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let ids: HashSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len());
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    rows
}

#[tokio::test]
async fn every_list_is_paged_and_filtered() {
    const ORDERS: usize = 5;
    let (house, third_party, running) = started().await;
    let url = |name: &str| format!("{}/webhooks/{name}", third_party.url());
    let (one, _other) =
        (register(&running, &url("one")).await, register(&running, &url("two")).await);
    let orders: Vec<_> = (0..ORDERS).map(|_| completed("acme")).collect();
    for event in orders.iter().chain([&completed("globex")]) {
        house.send(event).await;
    }
    house.until("all e-mails", ORDERS + 1, |row| row.sent).await;
    let delivered = async || {
        (deliveries(&running, "status=delivered&limit=100").await.len() == 2 * ORDERS).then_some(())
    };
    eventually("all deliveries", PATIENCE, delivered).await;

    let count = async |path: &str, plural: &str| paged(&running, path, plural).await.len();
    let (id, order) = (one["id"].as_str().unwrap(), orders[0].subject());
    assert_eq!(count("/webhooks?", "webhooks").await, 2);
    assert_eq!(count("/deliveries?", "deliveries").await, 2 * ORDERS);
    assert_eq!(count("/deliveries?status=failed&", "deliveries").await, 0);
    assert_eq!(count(&format!("/deliveries?webhook_id={id}&"), "deliveries").await, ORDERS);
    let both = format!("/deliveries?webhook_id={id}&order_id={order}&status=delivered&");
    assert_eq!(count(&both, "deliveries").await, 1);
    assert_eq!(count("/emails?", "emails").await, ORDERS);
    assert_eq!(count(&format!("/emails?order_id={order}&"), "emails").await, 1);
    assert_eq!(count("/emails?kind=confirmation&status=sent&", "emails").await, ORDERS);
    assert_eq!(count("/emails?kind=receipt&", "emails").await, 0);
    assert_eq!(count("/emails?status=waiting&", "emails").await, 0);
    for _ in 0..3 {
        assert_eq!(post(&running, &format!("/webhooks/{id}/rotate-secret")).await.0, 200);
    }
    assert_eq!(count(&format!("/webhooks/{id}/events?"), "events").await, 3);
    let foreign = get(&running, &format!("/deliveries?webhook_id={id}"), "demo-globex").await.1;
    assert_eq!(foreign["deliveries"], json!([]));
    running.shutdown().await;
}

/// Starts two third parties, one for each tenant.
pub(crate) async fn two() -> (House, ThirdParty, ThirdParty) {
    let (one, other) = (ThirdParty::start().await.unwrap(), ThirdParty::start().await.unwrap());
    let mut house = House::empty().await;
    let allow = format!("{},{}", one.address(), other.address());
    house.webhooks.allow = allow.parse().unwrap();
    (house, one, other)
}

/// Returns each operation on one webhook or one delivery, with these ids in its path.
fn operations_on(webhook: &str, delivery: &str) -> Vec<(Method, String)> {
    let document: Value =
        serde_json::from_str(include_str!("../../../../schemas/http/notification.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let of_one = paths.filter(|(path, _)| path.contains("{id}"));
    let operations = of_one.flat_map(|(path, operations)| {
        let id = if path.starts_with("/deliveries/") { delivery } else { webhook };
        let path = path.replace("{id}", id);
        let methods = ["get", "post", "delete", "put", "patch"].into_iter();
        let methods = methods.filter(|method| operations.get(method).is_some());
        methods.map(move |method| (method.to_uppercase().parse().unwrap(), path.clone()))
    });
    operations.collect()
}

#[tokio::test]
async fn a_webhook_and_its_deliveries_are_its_tenants_alone() {
    let (house, third_party, running) = started().await;
    let webhook = register(&running, &format!("{}/webhooks/shop", third_party.url())).await;
    let completed = completed("acme");
    house.send(&completed).await;
    let delivered = until_delivery(&house, &running, completed.subject(), "delivered").await;
    let (webhook, delivery) =
        (webhook["id"].as_str().unwrap(), delivered[0]["id"].as_str().unwrap());
    house.until_no_job().await;
    let state = "select (select jsonb_agg(to_jsonb(webhooks)) from webhooks)::text
                    || (select jsonb_agg(to_jsonb(deliveries)) from deliveries)::text
                    || (select count(*) from webhook_secrets)
                    || (select count(*) from job)";
    let state = async || sqlx::query_scalar::<_, String>(state).fetch_one(&house.pool).await;
    let before = state().await.unwrap();

    let operations = operations_on(webhook, delivery);
    assert!(operations.len() >= 9, "{operations:?}");
    for (method, path) in operations {
        let request =
            Client::new().request(method.clone(), format!("http://{}{path}", running.http));
        let request = request.bearer_auth("demo-globex");
        let request = if path == format!("/webhooks/{webhook}/redeliver") {
            request.json(&json!({ "since": "2026-01-01T00:00:00Z", "state": ["delivered"] }))
        } else {
            request
        };
        let response = CONTRACT.send(request).await.unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 404, "{method} {path}: {body}");
        assert_eq!(state().await.unwrap(), before, "{method} {path}");
    }
    running.shutdown().await;
}
