//! `{{group}}`: a sum for each tenant and currency.

use events::{{Event}};
use serde_json::Value;
use testbed::{event_of, with_new_id};

use crate::house::House;

#[tokio::test]
async fn an_order_adds_once_under_however_many_ids_it_is_told() {
    const ORDERS: usize = 20;
    let house = House::empty().await;
    // Sent before the first start of the service: a new group begins at the earliest event, and
    // events that are waiting share a batch.
    let orders: Vec<_> = (0..ORDERS).map(|_| event_of::<{{Event}}>("acme")).collect();
    for order in &orders {
        house.send(order).await;
        house.send(order).await;
        house.send(&with_new_id(order)).await;
    }
    house.send(&event_of::<{{Event}}>("globex")).await;
    let running = house.start().await;
    house.wait_until_consumed("{{group}}", 2 * ORDERS + 1).await;
    house.send(&with_new_id(&orders[0])).await;
    house.wait_until_consumed("{{group}}", 2 * ORDERS + 2).await;

    let sums: Vec<(String, i64, String)> = sqlx::query_as(
        "select tenant_id, orders, amount::text from {{name}}
         order by tenant_id",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap();
    let data: Value = serde_json::from_slice(&orders[0].data).unwrap();
    let total = data["total"].as_i64().unwrap();
    let expected = [
        ("acme".to_owned(), 20, (20 * total).to_string()),
        ("globex".to_owned(), 1, total.to_string()),
    ];
    assert_eq!(sums, expected, "see `amount` in src/consumers/{{name}}.rs");
    running.shutdown().await;
}

#[tokio::test]
async fn no_number_of_orders_overflows_the_sum() {
    let house = House::empty().await;
    let running = house.start().await;
    let order = event_of::<{{Event}}>("acme");
    let data: Value = serde_json::from_slice(&order.data).unwrap();
    sqlx::query(
        "insert into {{name}} (tenant_id, currency, orders, amount)
         values ('acme', $1, 1, $2)",
    )
    .bind(data["currency"].as_str().unwrap())
    .bind(i64::MAX)
    .execute(&house.pool)
    .await
    .unwrap();
    house.send(&order).await;
    house.wait_until_consumed("{{group}}", 1).await;

    let sum: (i64, String) = sqlx::query_as("select orders, amount::text from {{name}}")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    let total = data["total"].as_i64().unwrap();
    let expected = (2, (i128::from(i64::MAX) + i128::from(total)).to_string());
    assert_eq!(sum, expected, "see `amount` in src/consumers/{{name}}.rs");
    running.shutdown().await;
}
