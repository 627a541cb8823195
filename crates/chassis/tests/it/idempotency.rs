use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{House, read};

async fn ship(house: &House, key: &str, body: Value) -> reqwest::Response {
    let request = house.acme(Method::POST, "/parcels").header("idempotency-key", key);
    request.json(&body).send().await.unwrap()
}

#[tokio::test]
async fn twins_that_meet_in_a_transaction_have_one_effect_and_one_answer() {
    let house = House::start().await;
    let same = || ship(&house, "once", json!({ "weight": 3 }));
    let (a, b, c) = tokio::join!(same(), same(), same());
    let [a, b, c] = [read(a, 201).await, read(b, 201).await, read(c, 201).await];
    assert!(a == b && b == c, "{a} {b} {c}");
    assert_eq!(house.shipped().await, [3]);
    assert_eq!(read(same().await, 201).await, a);
}

#[tokio::test]
async fn a_key_is_of_one_request_and_one_tenant() {
    let house = House::start().await;
    read(ship(&house, "once", json!({ "weight": 3 })).await, 201).await;
    let other = read(ship(&house, "once", json!({ "weight": 4 })).await, 422).await;
    assert!(other["detail"].as_str().unwrap().contains("Idempotency-Key"), "{other}");
    let globex = house.anonymous(Method::POST, "/parcels").bearer_auth("demo-globex");
    let globex = globex.header("idempotency-key", "once").json(&json!({ "weight": 5 }));
    read(globex.send().await.unwrap(), 201).await;
    assert_eq!(house.shipped().await, [3, 5]);
}
