use std::process::{Child, Command, Stdio};

use crate::house::{House, completed};

fn process(house: &House) -> Child {
    Command::new(env!("CARGO_BIN_EXE_billing"))
        .env("DATABASE_URL", house.space.database_url())
        .env("KAFKA_BROKERS", house.space.kafka_brokers())
        .env("KAFKA_TOPIC_PREFIX", house.space.topic_prefix())
        .env("TENANTS", "demo-acme=acme")
        .args(["--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn killed_with_minus_nine_in_between_each_order_still_has_one_invoice() {
    const ORDERS: usize = 600;
    let house = House::empty().await;
    for n in 0..ORDERS {
        house.send(&completed(if n % 3 == 0 { "globex" } else { "acme" })).await;
    }
    let mut first = process(&house);
    // In the middle: some are invoiced, their offsets are not committed, others are on their way.
    while house.invoices().await.is_empty() {
        tokio::task::yield_now().await;
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let before = house.invoices().await.len();
    assert!(before < ORDERS, "it was killed too late to show anything");

    let mut second = process(&house);
    let invoices = house.invoiced(ORDERS).await;
    for tenant in ["acme", "globex"] {
        let numbers: Vec<_> = invoices.iter().filter(|i| i.1 == tenant).map(|i| i.2).collect();
        assert_eq!(
            numbers,
            (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(),
            "{tenant}"
        );
    }
    let said = house.records("invoice.issued", ORDERS).await;
    let orders: std::collections::HashSet<_> =
        said.iter().map(|record| record.key.clone()).collect();
    assert_eq!(orders.len(), ORDERS);
    second.kill().unwrap();
    second.wait().unwrap();
}
