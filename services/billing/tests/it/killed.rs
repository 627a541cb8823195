use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use kafka::Record;
use sandbox::testing::eventually;
use sandbox::{Life, Process};
use sqlx::{Postgres, Transaction};

use crate::house::{House, PATIENCE, completed};

/// Starts a process that ends with the test, even if the test is killed.
fn process(house: &House, log: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billing"));
    command
        .env("DATABASE_URL", house.space.database_url())
        .env("KAFKA_BROKERS", house.space.kafka_brokers())
        .env("KAFKA_TOPIC_PREFIX", house.space.topic_prefix())
        .env("TENANTS", "demo-acme=acme")
        .args(["--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    Process::spawn("billing", command, log, Life::WithParent).unwrap()
}

/// Lets the invoice of an order wait until the returned transaction ends.
async fn hold_invoice_of(house: &House, order: &str) -> Transaction<'static, Postgres> {
    // The service creates its tables when it starts.
    house.start_with(house.config().unsubscribed()).await.shutdown().await;
    let sql = format!(
        "create table gate ();
         create function wait_at_gate() returns trigger language plpgsql as
             $$ begin perform from gate; return new; end $$;
         create trigger wait_at_gate before insert on invoices
             for each row when (new.order_id = '{order}') execute function wait_at_gate()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&house.pool).await.unwrap();
    let mut held = house.pool.begin().await.unwrap();
    sqlx::query("lock table gate").execute(&mut *held).await.unwrap();
    held
}

#[tokio::test]
async fn killed_with_minus_nine_in_between_each_order_still_has_one_invoice() {
    const ORDERS: usize = 600;
    let house = House::empty().await;
    let tenants = (0..ORDERS).map(|n| if n % 3 == 0 { "globex" } else { "acme" });
    let events: Vec<_> = tenants.map(completed).collect();
    for event in &events {
        house.send(event).await;
    }
    // The process must not finish before it is killed.
    let held = hold_invoice_of(&house, events[ORDERS - 1].key()).await;
    let logs = tempfile::tempdir().unwrap();
    let mut first = process(&house, &logs.path().join("first.log"));
    // Some orders are invoiced without a committed offset, and others are being processed.
    let some = async || (!house.invoices().await.is_empty()).then_some(());
    eventually("the first invoices", PATIENCE, some).await;
    first.kill_9().await;
    let before = house.invoices().await.len();
    assert!(before < ORDERS, "one is held");
    held.rollback().await.unwrap();

    let _second = process(&house, &logs.path().join("second.log"));
    let invoices = house.invoiced(ORDERS).await;
    for tenant in ["acme", "globex"] {
        let numbers: Vec<_> = invoices.iter().filter(|i| i.1 == tenant).map(|i| i.2).collect();
        assert_eq!(
            numbers,
            (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(),
            "{tenant}"
        );
    }

    // The killed relay may have published some events twice, with the same id.
    let orders =
        |records: &[Record]| records.iter().map(|r| r.key.clone()).collect::<HashSet<_>>().len();
    let issued =
        house.records_until("invoice.issued", move |records| orders(records) == ORDERS).await;
    let ids: HashSet<_> = issued.iter().map(|record| record.text_header("ce_id")).collect();
    assert_eq!(ids.len(), ORDERS);
}
