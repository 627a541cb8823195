//! Limits of each tenant.

use reqwest::Method;
use serde_json::json;

use crate::house::{House, read};

#[tokio::test]
async fn a_tenant_that_asks_too_much_is_told_when_to_come_back() {
    let house = House::with(|config| config.limiting_tenants(2, 0)).await;
    let ask = |key| house.anonymous(Method::GET, "/nothing").bearer_auth(key).send();
    let mut refused = None;
    for _ in 0..20 {
        let answer = ask("demo-acme").await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("20 requests in less than 9 seconds");
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem = read(refused, 429).await;
    assert!(problem["detail"].as_str().unwrap().contains("2 requests per second"), "{problem}");
    // Other tenants and unknown callers are not affected.
    assert_eq!(ask("demo-globex").await.unwrap().status(), 404);
    assert_eq!(ask("guess").await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_tenant_has_so_many_requests_in_flight() {
    let house = House::with(|config| config.limiting_tenants(0, 2)).await;
    let ship = |key| {
        let request = house.anonymous(Method::POST, "/parcels").bearer_auth(key);
        request.json(&json!({ "weight": 1 })).send()
    };
    let mut refused = 0;
    for _ in 0..5 {
        let all = [ship("demo-acme"), ship("demo-acme"), ship("demo-acme"), ship("demo-globex")];
        let statuses = futures::future::join_all(all).await;
        let statuses: Vec<_> = statuses.into_iter().map(|it| it.unwrap().status()).collect();
        assert_eq!(statuses[3], 201, "{statuses:?}");
        refused += statuses.iter().filter(|status| **status == 429).count();
        assert!(statuses.iter().filter(|status| **status == 201).count() >= 3, "{statuses:?}");
    }
    assert!(refused > 0);
    assert_eq!(ship("demo-acme").await.unwrap().status(), 201, "places are given back");
}
