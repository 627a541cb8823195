//! Events that arrive by HTTP instead of Kafka.

use std::time::Duration;

use chassis::RunningService;
use envelope::{Encoded, TenantId};
use kafka::Record;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{CONTRACT, House, PATIENCE, completed};

async fn post(running: &RunningService, key: &str, event: &Encoded) -> (u16, Value) {
    let mut request = request(running, key, "application/json");
    for (name, value) in event.envelope.attributes() {
        request = request.header(format!("ce-{name}"), value.into_owned());
    }
    answer(request.body(event.data.clone())).await
}

async fn post_structured(running: &RunningService, key: &str, event: &Encoded) -> (u16, Value) {
    let data: Value = serde_json::from_slice(&event.data).unwrap();
    let mut body = json!({ "datacontenttype": "application/json", "data": data });
    for (name, value) in event.envelope.attributes() {
        body[name] = json!(value);
    }
    let request = request(running, key, "application/cloudevents+json; charset=utf-8");
    answer(request.body(body.to_string())).await
}

fn request(running: &RunningService, key: &str, content_type: &str) -> reqwest::RequestBuilder {
    let url = format!("http://{}/events", running.http);
    reqwest::Client::new().post(url).bearer_auth(key).header("content-type", content_type)
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = CONTRACT.send(request).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Consumes a number of records of a topic as a member of a new group.
async fn consume_in_new_group(house: &House, topic: &str, records: usize) {
    let member: BaseConsumer = house.settings.consumer("new").create().unwrap();
    member.subscribe(&[&house.settings.prefixed(topic)]).unwrap();
    let mut consumed = 0;
    let all = async || {
        if let Some(Ok(_)) = member.poll(Duration::ZERO) {
            consumed += 1;
        }
        (consumed == records).then_some(())
    };
    eventually("the records in a new group", PATIENCE, all).await;
}

/// Returns `true` if the cluster knows a group, with members or without.
fn has_formed(house: &House, group: &str) -> bool {
    let client: BaseConsumer = house.settings.client().create().unwrap();
    let group = house.settings.prefixed(group);
    let groups = client.fetch_group_list(Some(&group), PATIENCE).unwrap();
    groups.groups().iter().any(|it| it.name() == group && it.state() != "Dead")
}

fn outcome(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["outcomes"]["billing"].as_str().unwrap_or("none"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_has_one_effect_by_whatever_ways_it_comes() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    assert_eq!(outcome(&post(&running, "sender", &event).await), (200, "processed"));
    assert_eq!(outcome(&post_structured(&running, "sender", &event).await), (200, "duplicate"));
    house.send(&event).await;

    let consumed_first = completed("acme");
    house.send(&consumed_first).await;
    house.invoiced(2).await;
    assert_eq!(outcome(&post(&running, "sender", &consumed_first).await), (200, "duplicate"));

    // The event that it causes is published as usual.
    let issued = house.records("invoice.issued", 2).await;
    let caused = |it: &Record| it.text_header("ce_causationid") == Some(event.envelope.id.as_str());
    assert_eq!(issued.iter().filter(|it| caused(it)).count(), 1);
    assert_eq!(house.invoices().await.len(), 2);
    assert!(running.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_only_what_its_credential_is_for() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    // A tenant's key is not a service's.
    for key in ["demo-acme", "nobody", ""] {
        assert_eq!(post(&running, key, &event).await.0, 401, "{key:?}");
    }
    let mut foreign = event.clone();
    foreign.envelope.source = "/billing".into();
    assert_eq!(post(&running, "sender", &foreign).await.0, 403, "another source");
    let mut foreign = event.clone();
    foreign.envelope.event_type = "order.returned".into();
    assert_eq!(post(&running, "sender", &foreign).await.0, 403, "another type");
    let mut unhandled = event.clone();
    unhandled.envelope.event_type = "order.archived".into();
    assert_eq!(post(&running, "sender", &unhandled).await.0, 422, "no subscription handles it");
    assert!(house.invoices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_taken_is_said_and_leaves_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    let mut contradicting = completed("acme");
    contradicting.envelope.tenant_id = Some(TenantId::new("globex").unwrap());
    let mut foreign_major = completed("acme");
    foreign_major.envelope.dataschema = Some("urn:orderflow:order.completed:9.0".into());
    let mut no_json = completed("acme");
    no_json.data = b"{\"order_id\":".to_vec();
    for event in [&contradicting, &foreign_major, &no_json] {
        let (status, problem) = post(&running, "sender", event).await;
        assert_eq!(status, 422, "{problem}");
    }
    let no_event = request(&running, "sender", "application/json").body("{}");
    assert_eq!(answer(no_event).await.0, 400);
    let batch = request(&running, "sender", "application/cloudevents-batch+json").body("[]");
    assert_eq!(answer(batch).await.0, 415);
    let huge = request(&running, "sender", "application/cloudevents+json");
    assert_eq!(answer(huge.body(vec![b' '; 1_200_000])).await.0, 413);

    sqlx::query("alter table invoices rename to away").execute(&house.pool).await.unwrap();
    let event = completed("acme");
    assert_eq!(post(&running, "sender", &event).await.0, 503);
    sqlx::query("alter table away rename to invoices").execute(&house.pool).await.unwrap();
    // The inbox does not have it, so it may be sent again.
    assert_eq!(outcome(&post(&running, "sender", &event).await), (200, "processed"));
    assert_eq!(house.invoices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_moves_from_one_way_to_the_other_without_a_loss_or_a_second_effect() {
    let house = House::empty().await;
    let by_both = completed("acme");
    let by_kafka = completed("acme");
    house.send(&by_kafka).await;
    house.send(&by_both).await;

    let unsubscribed = house.start_with(house.config().unsubscribed()).await;
    assert_eq!(outcome(&post(&unsubscribed, "sender", &by_both).await), (200, "processed"));
    // The event that it causes is published all the same.
    house.records("invoice.issued", 1).await;
    // A service that subscribes would have joined by then.
    consume_in_new_group(&house, "order.completed", 2).await;
    assert!(unsubscribed.shutdown().await);
    for group in ["billing", "billing.credits"] {
        assert!(!has_formed(&house, group), "{group}");
    }
    let inbox: i64 =
        sqlx::query_scalar("select count(*) from inbox").fetch_one(&house.pool).await.unwrap();
    assert_eq!((inbox, house.invoices().await.len()), (1, 1), "inbox and invoices");

    let subscribed = house.start().await;
    house.invoiced(2).await;
    assert_eq!(outcome(&post(&subscribed, "sender", &by_kafka).await), (200, "duplicate"));
    assert!(subscribed.shutdown().await);
    assert!(has_formed(&house, "billing"));
    assert_eq!(house.records("invoice.issued", 2).await.len(), 2);
}
