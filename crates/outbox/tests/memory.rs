//! Tests of the memory of a relay, in a separate process.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use envelope::TopicSpec;
use kafka::{Settings, TopicPolicy, Topics};
use outbox::{Relay, RelayWaker};
use sandbox::testing::{TestSpace, eventually};
use sqlx::PgPool;
use telemetry::Metrics;
use tokio_util::sync::CancellationToken;

/// Returns the peak resident size of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_backlog_of_large_events_takes_no_more_memory_than_is_allowed() {
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    outbox::migrate(&pool).await.unwrap();
    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    let topics = Topics { owned: vec![TopicSpec::new("large")], ..Topics::default() };
    kafka::ensure(&settings, &topics, TopicPolicy::Create).await.unwrap();
    sqlx::raw_sql(
        "insert into outbox (shard, topic, key, headers, payload)
         select n % 16, 'large', 'K-' || n, '{}', convert_to(repeat('x', 900000), 'utf8')
         from generate_series(1, 200) n",
    )
    .execute(&pool)
    .await
    .unwrap();
    let before = peak();
    let meter = Metrics::new("test").meter("outbox");
    let database = (*pool.connect_options()).clone();
    let relay = Relay::new(database, settings, RelayWaker::default(), &meter);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(relay.run(shutdown.clone()));
    let drained = async || {
        let rows: i64 =
            sqlx::query_scalar("select count(*) from outbox").fetch_one(&pool).await.unwrap();
        (rows == 0).then_some(())
    };
    eventually("an empty outbox", Duration::from_mins(2), drained).await;
    let took = peak() - before;
    assert!(took < 64 * 1024 * 1024, "{took} bytes, of 180 MB that waited");
    shutdown.cancel();
    running.await.unwrap();
}
