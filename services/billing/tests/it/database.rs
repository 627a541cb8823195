//! A database that refuses requests while billing starts, and while it runs.

use std::net::{Ipv4Addr, SocketAddr};

use billing::{Config, app};
use reqwest::StatusCode;
use sandbox::testing::eventually;
use serde_json::Value;

use crate::house::{House, PATIENCE, cancelled, completed};

/// Polls `/readyz` until the field at a JSON pointer contains a text.
async fn await_readiness(admin: SocketAddr, field: &str, text: &str) -> (StatusCode, Value) {
    let report = async || {
        let answer = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
        let (status, body) = (answer.status(), answer.json::<Value>().await.ok()?);
        let value = body.pointer(field)?.to_string();
        value.contains(text).then_some((status, body))
    };
    eventually(&format!("{field} to say {text:?}"), PATIENCE, report).await
}

#[tokio::test]
async fn it_waits_for_a_database_that_refuses_and_says_why() {
    let house = House::empty().await;
    let admin: SocketAddr = (Ipv4Addr::LOCALHOST, sandbox::port::free().unwrap()).into();
    let role = house.pool.connect_options().get_username().to_owned();
    house.space.set_read_only(true).await;
    let config = house.config().admin_on(admin);
    let starting = tokio::spawn(app::build(Config { chassis: config }).start());
    let (status, _) = await_readiness(admin, "/starting", "read-only").await;
    assert_eq!(status, 503);
    house.space.as_superuser(&format!("alter role {role} nologin")).await;
    house.space.set_read_only(false).await;
    house.space.end_sessions().await;
    let (status, _) = await_readiness(admin, "/starting", "not permitted to log in").await;
    assert_eq!(status, 503);
    house.space.as_superuser(&format!("alter role {role} login")).await;
    let running = starting.await.unwrap().unwrap();
    let (status, report) = await_readiness(admin, "/status", "ready").await;
    assert_eq!((status, &report["starting"]), (StatusCode::OK, &Value::Null));
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn while_it_is_read_only_orders_wait_and_readiness_says_why() {
    let house = House::empty().await;
    let running = house.start().await;
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    house.space.set_read_only(true).await;
    // After that time the pool pings its sessions before use and reconnects, so the attempt itself
    // is refused.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    for _ in 0..30 {
        house.send(&completed("acme")).await;
    }
    let (status, report) =
        await_readiness(running.admin, "/subscriptions/billing", "waiting for the database").await;
    assert_eq!((status, &report["status"]), (StatusCode::OK, &"degraded".into()));
    let why = report["subscriptions"]["billing"].as_str().unwrap();
    assert!(why.contains("read-only transaction"), "{why}");
    await_readiness(running.admin, "/database", "read-only: it accepts no writes").await;
    house.space.set_read_only(false).await;
    house.invoiced(31).await;
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn statements_planned_for_empty_tables_do_not_read_all_invoices_later() {
    const ORDERS: u16 = 30;
    let house = House::empty().await;
    let running = house.start().await;
    let mut orders = Vec::new();
    for number in 1..=ORDERS {
        let order = completed("acme");
        house.send(&order).await;
        house.records("invoice.issued", number.into()).await;
        orders.push(order);
    }
    for (number, order) in orders.iter().enumerate() {
        house.send(&cancelled(order)).await;
        house.records("invoice.credited", number + 1).await;
    }
    running.shutdown().await;
    for table in ["invoices", "credit_notes"] {
        let read = house.space.entries_read(table).await;
        // One lookup for each order, and some rows by the queries for metrics. The whole table each
        // time would be more than 400.
        assert!(read < 4 * i64::from(ORDERS), "{read} rows of {table}");
    }
}
