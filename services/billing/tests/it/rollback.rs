//! An older release on the schema of a newer one.

use crate::house::{House, completed, get};

#[tokio::test]
async fn a_release_that_is_rolled_back_starts_and_works() {
    let house = House::empty().await;
    assert!(house.start().await.shutdown().await);
    for table in
        ["_sqlx", "_chassis", "_outbox", "_consumer", "_jobs"].map(|of| format!("{of}_migrations"))
    {
        let newer = format!(
            "insert into {table} values (9999, 'of the release after this one', now(), true, '', 0)"
        );
        sqlx::query(sqlx::AssertSqlSafe(newer)).execute(&house.pool).await.unwrap();
    }

    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(1).await;
    let path = format!("/invoices?order_id={}", event.subject());
    let (status, body) = get(&running, &path, "demo-acme").await;
    assert_eq!((status, body["invoices"].as_array().unwrap().len()), (200, 1));
    assert!(running.shutdown().await);
}
