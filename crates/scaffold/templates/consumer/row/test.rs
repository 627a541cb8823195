//! `{{group}}`: a row for each order.

use envelope::Encoded;
use events::{{Event}};
use serde_json::Value;
use testbed::{event_of, with_new_id};

use crate::house::House;

type Row = (String, String, String, i64);

#[tokio::test]
async fn an_order_has_one_row_under_however_many_ids_it_is_told() {
    let house = House::empty().await;
    // Sent before the first start of the service: a new group begins at the earliest event.
    let orders = [event_of::<{{Event}}>("acme"), event_of::<{{Event}}>("globex")];
    for order in &orders {
        house.send(order).await;
        house.send(order).await;
        house.send(&with_new_id(order)).await;
    }
    let running = house.start().await;
    house.wait_until_consumed("{{group}}", 4).await;
    house.send(&with_new_id(&orders[0])).await;
    house.wait_until_consumed("{{group}}", 5).await;

    let rows: Vec<Row> = sqlx::query_as(
        "select order_id::text, tenant_id, currency, amount from {{name}} order by order_id",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap();
    assert_eq!(rows, orders.each_ref().map(row), "see `amount` in src/consumers/{{name}}.rs");
    running.shutdown().await;
}

/// Returns the row of an order. Ids of later orders sort later.
fn row(order: &Encoded) -> Row {
    let data: Value = serde_json::from_slice(&order.data).unwrap();
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    (text("order_id"), text("tenant_id"), text("currency"), data["total"].as_i64().unwrap())
}
