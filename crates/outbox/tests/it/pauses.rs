use std::time::{Duration, Instant};

use envelope::TopicSpec;
use kafka::{TopicPolicy, Topics};
use sandbox::testing::eventually;

use crate::house::*;
use crate::log::Log;

/// Returns the second longest wait of 100 events of a live topic, from the commit to the deletion
/// of the row.
async fn slowest_but_one(house: &House) -> Duration {
    let mut waits = Vec::new();
    for number in 0..100 {
        house.write(&[shipped(&format!("P-{number}"), 1)]).await;
        let written = Instant::now();
        let gone = async || {
            let there = "select exists (select from outbox where topic = 'parcel.shipped')";
            let there: bool = sqlx::query_scalar(there).fetch_one(&house.pool).await.unwrap();
            (!there).then_some(())
        };
        eventually("the event of a live topic to be published", PATIENCE, gone).await;
        waits.push(written.elapsed());
    }
    waits.sort();
    waits[98]
}

#[tokio::test]
async fn many_rows_of_a_topic_that_does_not_exist_delay_no_other_and_log_a_line() {
    let log = Log::begin();
    let house = House::new().await;
    house.fill("no.such.topic", 200_000, 16).await;
    let (shutdown, relay, status) = house.relay_with_status();
    let slowest = slowest_but_one(&house).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");

    let paused = async || status.paused().pop();
    let paused = eventually("the topic to be paused", PATIENCE, paused).await;
    assert_eq!(paused.topic, "no.such.topic");
    assert!(paused.to_string().contains("nknown topic"), "{paused}");
    assert!(
        house
            .metrics
            .render()
            .contains("outbox_paused{topic=\"no.such.topic\",otel_scope_name=\"outbox\"} 1"),
        "{}",
        house.metrics.render()
    );
    let lines: Vec<_> =
        log.lines().into_iter().filter(|line| line.contains("no.such.topic")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(log.lines().len() < 20, "{:?}", log.lines());

    // Its owner creates it.
    sqlx::query("delete from outbox where id > (select min(id) from outbox) + 999")
        .execute(&house.pool)
        .await
        .unwrap();
    let topics = Topics { owned: vec![TopicSpec::new("no.such.topic")], ..Topics::default() };
    kafka::ensure(&house.settings, &topics, TopicPolicy::Create).await.unwrap();
    house.drained().await;
    let resumed = async || status.paused().is_empty().then_some(());
    eventually("the pause to end", PATIENCE, resumed).await;
    assert_eq!(house.published_to(&TopicSpec::new("no.such.topic")).len(), 1000, "each once");
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn many_topics_that_do_not_exist_are_reported_in_few_lines() {
    let log = Log::begin();
    let house = House::new().await;
    for topic in 0..60 {
        house.fill(&format!("no.such.topic.{topic}"), 50, 16).await;
    }
    let (shutdown, relay, status) = house.relay_with_status();
    let slowest = slowest_but_one(&house).await;
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let paused = async || (status.paused().len() == 60).then_some(());
    eventually("all of them to be paused", PATIENCE, paused).await;
    let lines: Vec<_> =
        log.lines().into_iter().filter(|line| line.contains("no.such.topic")).collect();
    assert!((1..=5).contains(&lines.len()), "{lines:?}");
    shutdown.cancel();
    relay.await.unwrap();
}
