use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Ask, Rows, an_order};

#[tokio::test]
async fn an_order_is_read_with_its_version() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let answer = app.get(&format!("/orders/{id}")).await;
    assert_eq!((answer.status, answer.header("etag")), (200, "\"1\""));
    assert_eq!(answer.json()["id"], json!(id));
    for unknown in [Uuid::now_v7().to_string(), "7".into(), format!("{id}x"), "%ff".into()] {
        app.get(&format!("/orders/{unknown}")).await.assert_problem(404, "there is no");
    }
    app.get("/order").await.assert_problem(404, "");
    app.request(Method::DELETE, &format!("/orders/{id}")).answer().await.assert_problem(405, "");
}

#[tokio::test]
async fn an_order_that_the_caller_has_is_not_sent_again() {
    let app = App::start().await;
    let path = format!("/orders/{}", app.place(&an_order()).await);
    let unless =
        |etag: &str| app.request(Method::GET, &path).header("if-none-match", etag).answer();
    for etag in ["\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"] {
        let answer = unless(etag).await;
        assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{etag}");
        assert_eq!((answer.header("etag"), answer.header("content-type")), ("\"1\"", ""));
    }
    app.post(&format!("{path}/complete")).answer().await;
    assert_eq!(unless("\"1\"").await.json()["version"], json!(2));
    assert_eq!(unless("nonsense").await.status, 200);
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let app = App::start().await;
    let empty = app.get("/orders").await;
    assert_eq!(empty.json(), json!({ "orders": [], "next_cursor": null }));

    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.place(&an_order()).await);
    }
    app.request_as("demo-globex", Method::POST, "/orders").json(&an_order()).answer().await;
    ids.reverse();

    let mut seen = Vec::new();
    let mut path = "/orders?limit=2".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = app.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let page = page.json();
        let orders = page["orders"].as_array().unwrap();
        sizes.push(orders.len());
        seen.extend(orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()));
        let Value::String(cursor) = &page["next_cursor"] else { break };
        path = format!("/orders?limit=2&cursor={cursor}");
        // Orders placed meanwhile are newer and do not shift the pages.
        app.place(&an_order()).await;
    }
    assert_eq!((seen, sizes), (ids.clone(), vec![2, 2, 1]));

    // A full page without further rows is the last one.
    let page = app.get("/orders?limit=7").await.json();
    assert_eq!((page["orders"].as_array().unwrap().len(), &page["next_cursor"]), (7, &json!(null)));
    // Each row equals the response for the single order.
    let alone = app.get(&format!("/orders/{}", ids[0])).await.json();
    assert!(page["orders"].as_array().unwrap().contains(&alone));
}

#[tokio::test]
async fn a_page_that_can_not_be_is_refused() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    for (query, message) in [
        ("limit=0".to_owned(), "limit must be 1 to 100"),
        ("customer_email=a%00b".to_owned(), "no control characters"),
        ("limit=101".to_owned(), "limit must be 1 to 100"),
        ("limit=-1".to_owned(), "limit"),
        ("limit=ten".to_owned(), "limit"),
        ("limit=99999999999".to_owned(), "limit"),
        ("cursor=".to_owned(), "cursor must be"),
        ("cursor=abc".to_owned(), "cursor must be"),
        // An id is not a valid cursor, so that no client relies on the format.
        (format!("cursor={id}"), "cursor must be"),
        ("cursor=%00".to_owned(), "cursor must be"),
        ("page=2".to_owned(), "page"),
    ] {
        app.get(&format!("/orders?{query}")).await.assert_problem(400, message);
    }
    assert_eq!(app.get("/orders?limit=1").await.status, 200);
    assert_eq!(app.get("/orders?limit=100").await.status, 200);
}

#[tokio::test]
async fn a_tenant_sees_only_what_is_its_own() {
    let app = App::start().await;
    let id = app.place(&an_order()).await;
    let order = format!("/orders/{id}");
    let globex = |method, path: &str| app.request_as("demo-globex", method, path);

    globex(Method::GET, &order).answer().await.assert_problem(404, "there is no order");
    let change = json!({ "customer_email": "grace@example.com" });
    for etag in ["\"1\"", "*", "\"7\""] {
        let patch = globex(Method::PATCH, &order).header("if-match", etag).json(&change);
        patch.answer().await.assert_problem(404, "there is no order");
    }
    let complete = globex(Method::POST, &format!("{order}/complete"));
    complete.answer().await.assert_problem(404, "there is no order");
    let list = globex(Method::GET, "/orders").answer().await.json();
    assert_eq!(list, json!({ "orders": [], "next_cursor": null }));
    // A cursor of another tenant gives no access: it only marks a position.
    let cursor = format!("/orders?cursor={}", "f".repeat(32));
    assert_eq!(globex(Method::GET, &cursor).answer().await.json()["orders"], json!([]));
    assert_eq!(app.rows().await, Rows { orders: 1, keys: 0, events: 1 });
}
