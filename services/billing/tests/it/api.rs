use sandbox::testing::eventually;
use serde_json::json;

use crate::house::{House, PATIENCE, cancelled, completed, get};

#[tokio::test]
async fn a_tenant_sees_its_own_invoices_and_nobody_elses() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(1).await;

    let of_order = format!("/invoices?order_id={}", event.subject());
    let (status, body) = get(&running, &of_order, "demo-acme").await;
    assert_eq!(status, 200);
    let invoice = &body["invoices"][0];
    assert_eq!(invoice["order_id"], event.subject());
    assert_eq!((&invoice["number"], &invoice["total"]), (&json!(1), &json!(1350)));
    assert_eq!(invoice["currency"], "EUR");
    assert!(invoice["issued_at"].as_str().unwrap().ends_with('Z'));

    let one = format!("/invoices/{}", invoice["id"].as_str().unwrap());
    assert_eq!(get(&running, &one, "demo-acme").await, (200, invoice.clone()));
    assert_eq!(get(&running, &one, "demo-globex").await.0, 404);
    let none = json!({ "invoices": [], "next_cursor": null });
    assert_eq!(get(&running, &of_order, "demo-globex").await, (200, none.clone()));
    assert_eq!(get(&running, "/invoices", "demo-globex").await, (200, none));
    running.shutdown().await;
}

#[tokio::test]
async fn invoices_and_credit_notes_are_read_page_by_page_newest_first() {
    let house = House::empty().await;
    let running = house.start().await;
    let mut orders = Vec::new();
    for n in 1..=5 {
        let event = completed("acme");
        house.send(&event).await;
        house.invoiced(n).await;
        house.send(&cancelled(&event)).await;
        house.credited(n).await;
        orders.insert(0, event.subject().to_owned());
    }
    for list in ["invoices", "credit-notes"] {
        let (mut seen, mut cursor, mut sizes) = (Vec::new(), String::new(), Vec::new());
        loop {
            let path = format!("/{list}?limit=2{cursor}");
            let (status, page) = get(&running, &path, "demo-acme").await;
            assert_eq!(status, 200, "{page}");
            let rows = page[list.replace('-', "_")].as_array().unwrap().clone();
            sizes.push(rows.len());
            for row in rows {
                let one = format!("/{list}/{}", row["id"].as_str().unwrap());
                assert_eq!(get(&running, &one, "demo-acme").await, (200, row.clone()));
                assert_eq!(get(&running, &one, "demo-globex").await.0, 404);
                seen.push(row["order_id"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((sizes, &seen), (vec![2, 2, 1], &orders), "{list}");
        let of_order = format!("/{list}?order_id={}", orders[3]);
        let (_, page) = get(&running, &of_order, "demo-acme").await;
        let rows = page[list.replace('-', "_")].as_array().unwrap();
        assert_eq!((rows.len(), rows[0]["order_id"].as_str()), (1, Some(orders[3].as_str())));
        assert_eq!(page["next_cursor"], json!(null));
        let foreign = get(&running, &of_order, "demo-globex").await.1;
        assert_eq!(foreign[list.replace('-', "_")], json!([]));
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so() {
    let house = House::empty().await;
    let running = house.start().await;
    for (path, key, status) in [
        ("/invoices?limit=0", "demo-acme", 400),
        ("/invoices?cursor=17", "demo-acme", 400),
        ("/invoices?order_id=17", "demo-acme", 400),
        ("/invoices?order_id=01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55&x=1", "demo-acme", 400),
        ("/credit-notes?limit=101", "demo-acme", 400),
        ("/credit-notes?order_id=17", "demo-acme", 400),
        ("/credit-notes/17", "demo-acme", 404),
        ("/credit-notes/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "demo-acme", 404),
        ("/credit-notes", "nobody", 401),
        ("/invoices/17", "demo-acme", 404),
        ("/invoices/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "demo-acme", 404),
        ("/invoices/01932c5e-7a10-7cc3-9f4e-0b6a2d1f3e55", "nobody", 401),
        ("/nothing", "demo-acme", 404),
    ] {
        let (answered, problem) = get(&running, path, key).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert_eq!(problem["status"], json!(status), "{path}");
        for part in ["title", "detail", "correlation_id"] {
            assert!(
                problem[part].as_str().is_some_and(|text| !text.is_empty()),
                "{path}: {problem}"
            );
        }
    }
    running.shutdown().await;
}

#[tokio::test]
async fn readiness_says_how_it_fares() {
    let house = House::empty().await;
    let running = house.start().await;
    let ready = async || {
        let response = reqwest::get(format!("http://{}/readyz", running.admin)).await.unwrap();
        let (status, body) =
            (response.status(), response.json::<serde_json::Value>().await.unwrap());
        (status == 200 && body["kafka"] == "up").then_some(body)
    };
    let mut body = eventually("readiness", PATIENCE, ready).await;
    // The number of subscriptions does not matter to this test.
    let subscriptions = body.as_object_mut().unwrap().remove("subscriptions").unwrap();
    assert_eq!(body, json!({"status": "ready", "database": "up", "kafka": "up"}));
    let subscriptions = subscriptions.as_object().unwrap();
    assert!(subscriptions.contains_key("billing"), "{subscriptions:?}");
    assert!(subscriptions.values().all(|state| state == "running"), "{subscriptions:?}");
    running.shutdown().await;
}
