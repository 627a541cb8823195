//! Every error has a problem as its body, whether a handler, an extractor or the router answers.

use axum::http::{HeaderName, HeaderValue};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::{House, read};

async fn check(response: Response, status: u16) {
    let content_type = response.headers()["content-type"].clone();
    let correlation_id = response.headers()["x-correlation-id"].clone();
    let problem = read(response, status).await;
    assert_eq!(content_type, "application/problem+json", "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["correlation_id"], correlation_id.to_str().unwrap());
    assert!(!problem["detail"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn every_error_of_the_public_port_is_a_problem() {
    let house = House::start().await;
    let parcels = || house.acme(Method::POST, "/parcels");
    let get = |path: &str| house.acme(Method::GET, path).send();
    check(get("/nothing").await.unwrap(), 404).await;
    check(get("/%ff/%00").await.unwrap(), 404).await;
    check(house.anonymous(Method::POST, "/parcels").send().await.unwrap(), 401).await;
    let not_allowed = get("/parcels").await.unwrap();
    assert_eq!(not_allowed.headers()["allow"], "POST");
    check(not_allowed, 405).await;
    let text = parcels().header("content-type", "text/plain").body("3");
    check(text.send().await.unwrap(), 415).await;
    let json = |body: String| parcels().header("content-type", "application/json").body(body);
    check(json("{".to_owned()).send().await.unwrap(), 400).await;
    check(json(" ".repeat(300_000)).send().await.unwrap(), 413).await;
    check(parcels().json(&json!({ "weight": 1.5 })).send().await.unwrap(), 422).await;
    check(get("/broken").await.unwrap(), 503).await;
}

#[tokio::test]
async fn every_error_of_the_admin_port_is_a_problem() {
    let house = House::start().await;
    let operator = |method, path| house.admin(method, path).bearer_auth("operator");
    check(house.admin(Method::GET, "/nothing").send().await.unwrap(), 404).await;
    let not_allowed = house.admin(Method::DELETE, "/readyz").send().await.unwrap();
    assert_eq!(not_allowed.headers()["allow"], "GET,HEAD");
    check(not_allowed, 405).await;
    check(house.admin(Method::GET, "/operator").send().await.unwrap(), 401).await;
    check(house.admin(Method::GET, "/jobs?limit=0").send().await.unwrap(), 400).await;
    check(operator(Method::POST, "/erasures").body("x").send().await.unwrap(), 415).await;
    let wrong = operator(Method::POST, "/erasures").json(&json!({ "customer": 1 }));
    check(wrong.send().await.unwrap(), 422).await;
    check(operator(Method::GET, "/jobs/17").send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn the_scheme_of_a_key_has_no_case() {
    let house = House::start().await;
    let name = HeaderName::from_static("authorization");
    for scheme in ["bearer", "Bearer", "BEARER"] {
        let key = |key: &str| HeaderValue::try_from(format!("{scheme} {key}")).unwrap();
        let public = house.anonymous(Method::POST, "/parcels").json(&json!({ "weight": 1 }));
        read(public.header(&name, key("demo-acme")).send().await.unwrap(), 201).await;
        let admin = house.admin(Method::GET, "/operator").header(&name, key("operator"));
        read(admin.send().await.unwrap(), 200).await;
    }
}

#[tokio::test]
async fn a_request_that_can_not_be_read_is_answered_with_a_problem() {
    let house = House::start().await;
    let long = "x".repeat(17 * 1024);
    for (text, status, expected) in [
        ("what is this\r\n\r\n".to_owned(), "400", "HTTP/1.1"),
        ("GET / HTTP/1.1\r\nhost\r\n\r\n".to_owned(), "400", "header"),
        (format!("GET / HTTP/1.1\r\nhost: p\r\nx-long: {long}\r\n\r\n"), "431", "too large"),
    ] {
        let mut stream = house.raw("GET /nothing HTTP/1.1\r\nhost: p\r\n\r\n").await;
        let mut first = String::new();
        while !first.ends_with('}') {
            let mut some = [0; 1024];
            let count = stream.read(&mut some).await.unwrap();
            first.push_str(std::str::from_utf8(&some[..count]).unwrap());
        }
        // The service may close the connection before it has read everything.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"].to_string(), status);
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{problem}");
        let id = problem["correlation_id"].as_str().unwrap();
        assert!(head.contains(&format!("x-correlation-id: {id}")), "{head}");
    }
}
