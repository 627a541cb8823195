//! Bytes sent to Postgres for deliveries of large orders.

use envelope::Encoded;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, cancelled, completed, register};
use crate::target::Target;
use crate::wire::Wire;

const WEBHOOKS: usize = 20;
const ORDERS: usize = 100;
const ITEMS: usize = 200;

/// Returns a cancelled order of about 20 KB, whose e-mail is short.
fn large() -> Encoded {
    let mut event = cancelled(&completed("acme"));
    let mut data: Value = serde_json::from_slice(&event.data).unwrap();
    let item = |n: usize| json!({ "sku": format!("{n:0>60}"), "quantity": 1, "unit_price": 1 });
    data["items"] = (0..ITEMS).map(item).collect();
    event.data = serde_json::to_vec(&data).unwrap();
    event
}

#[tokio::test]
async fn the_body_of_an_event_is_sent_to_the_database_once_for_all_webhooks() {
    let target = Target::start().await;
    let mut house = House::empty().await;
    let (wire, url) = Wire::start(&house.database_url).await;
    house.database_url = url;
    house.webhooks.allow = target.address.to_string().parse().unwrap();
    let running = house.start().await;
    for n in 0..WEBHOOKS {
        register(&running, &target.url(&n.to_string())).await;
    }
    running.shutdown().await;
    // Held deliveries have no jobs, whose statements would be counted too.
    sqlx::query("update webhooks set status = 'disabled'").execute(&house.pool).await.unwrap();
    let orders: Vec<_> = (0..ORDERS).map(|_| large()).collect();
    let bytes: usize = orders.iter().map(|order| order.data.len()).sum();
    for order in &orders {
        house.send(order).await;
    }
    let before = wire.sent();
    let running = house.start().await;
    let written = async || {
        let count: i64 = sqlx::query_scalar("select count(*) from deliveries")
            .fetch_one(&house.pool)
            .await
            .unwrap();
        (count == i64::try_from(WEBHOOKS * ORDERS).unwrap()).then_some(())
    };
    eventually("all deliveries are written", PATIENCE, written).await;
    let (sent, largest) = (wire.sent() - before, wire.largest());
    println!("for {bytes} bytes of orders: {sent} bytes sent, {largest} at once");
    assert!(sent < 2 * bytes, "{sent} bytes were sent for {bytes} bytes of orders");
    assert!(largest < 600_000, "{largest} bytes in one statement");

    // Each delivery has the body of its own event.
    let bodies: Vec<(String, i64)> = sqlx::query_as(
        "select body, count(distinct url) from deliveries
         where order_id::text = body::json -> 'data' ->> 'order_id' group by body",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap();
    assert_eq!(bodies.len(), ORDERS);
    for (body, urls) in bodies {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((urls, body["data"]["items"].as_array().unwrap().len()), (20, ITEMS));
    }
    running.shutdown().await;
}
