//! Erasure of customers on the admin port.

use reqwest::Method;
use serde_json::json;

use crate::house::{House, read};

/// Rows that name a customer in each kind of table. The first slot of flow steps is being written.
const ROWS: &str = r#"
    insert into parcel (weight, addressee) values (1, 'ada@example.com');
    insert into act (by, act, target, why)
    values ('operator', 'test', 'all', 'ada@example.com asked');
    insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
    values ('acme', 'k', '', 201, '[]', '"ada@example.com"');
    insert into flow_step (slot, correlation_id, instance, keys, steps)
    select slot, 'f', 'i', '{f}', '{"to":"ada@example.com"}' from generate_series(2, 5) slot"#;

/// Counts the rows that still name the customer, except in slot 3.
const LEFT: &str = "
    select (select count(*) from parcel where addressee is not null)
         + (select count(*) from act where why ~ '@')
         + (select count(*) from idempotency_key where body::text ~ '@')
         + (select count(*) from flow_step_2) + (select count(*) from flow_step_4)
         + (select count(*) from flow_step_5)";

#[tokio::test]
async fn an_erasure_whose_flow_steps_can_not_be_read_still_erases_the_rest() {
    let house = House::start().await;
    sqlx::raw_sql(ROWS).execute(&house.pool).await.unwrap();
    let mut other = house.pool.begin().await.unwrap();
    let lock = "lock table flow_step_3 in access exclusive mode";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    let erase = async || {
        let erasure = house.admin(Method::POST, "/erasures").bearer_auth("operator");
        erasure.json(&json!({ "customer_email": "ada@example.com" })).send().await.unwrap()
    };
    let refused = erase().await.status();
    assert!(refused.is_client_error() || refused.is_server_error(), "{refused}");
    let left: i64 = sqlx::query_scalar(LEFT).fetch_one(&house.pool).await.unwrap();
    assert_eq!(left, 0);
    let outcome = "select outcome from act where act = 'erasure'";
    let outcome: String = sqlx::query_scalar(outcome).fetch_one(&house.pool).await.unwrap();
    assert!(outcome.starts_with("failed: ") || outcome.starts_with("refused: "), "{outcome}");

    other.rollback().await.unwrap();
    assert_eq!(read(erase().await, 200).await, json!({ "letters": 0 }));
    let steps = "select count(*) from flow_step_3";
    let steps: i64 = sqlx::query_scalar(steps).fetch_one(&house.pool).await.unwrap();
    assert_eq!(steps, 0);
}
