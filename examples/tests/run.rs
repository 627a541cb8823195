//! Runs each program to its end, on a real Postgres and Kafka.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use sandbox::testing::{POSTGRES_URL, TestSpace};

async fn run(program: &str) -> String {
    let space = TestSpace::new().await;
    run_with(program, &space, space.database_url())
}

fn run_with(program: &str, space: &TestSpace, database_url: &str) -> String {
    let output = Command::new(program)
        .env("DATABASE_URL", database_url)
        .env("KAFKA_BROKERS", space.kafka_brokers())
        .env("KAFKA_TOPIC_PREFIX", space.topic_prefix())
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {stdout}{stderr}");
    stdout.into_owned()
}

#[tokio::test]
async fn the_outbox_publishes_what_committed() {
    let output = run(env!("CARGO_BIN_EXE_outbox")).await;
    assert_eq!(output, "published: ParcelShipped { parcel: \"P-2\", grams: 500 }\n");
}

#[tokio::test]
async fn the_consumer_weighs_each_event_once() {
    assert_eq!(run(env!("CARGO_BIN_EXE_consumer")).await, "2 events, 750 g\n");
}

#[tokio::test]
async fn the_client_does_not_wait_for_deferred_work() {
    let output = run(env!("CARGO_BIN_EXE_defer")).await;
    assert_eq!(output, "answered: HTTP/1.1 200 OK\ninventory told\n");
}

#[tokio::test]
async fn the_crates_work_in_another_system() {
    // It creates databases, which the owner of a single database may not.
    let server = std::env::var(POSTGRES_URL).unwrap();
    let space = TestSpace::new().await;
    let output = run_with(env!("CARGO_BIN_EXE_lift"), &space, &server);
    assert_eq!(output, "charged: P-17, 50 cents\n");
}
