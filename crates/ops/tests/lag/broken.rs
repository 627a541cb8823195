//! Problems that `orderflow lag` reports.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::House;
use crate::output::run;

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_deleted_before_they_were_consumed_are_counted() {
    let house = House::parcels(5, Duration::ZERO).await;
    house.commit("billing", 1);
    house.delete_before(4).await;
    let (status, billing) = house.billing(&[]).await;
    assert_eq!((status, &billing["state"]), (Some(1), &json!("lost")), "{billing}");
    assert_eq!((&billing["lost"], &billing["messages"]), (&json!(3), &json!(1)), "{billing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_is_named_and_the_lag_is_unknown() {
    let house = House::parcels(2, Duration::ZERO).await;
    house.commit("billing", 1);
    house.delete_topic().await;
    let (status, billing) = house.billing(&[]).await;
    assert_eq!((status, &billing["state"]), (Some(1), &json!("no topic")), "{billing}");
    assert_eq!(billing["messages"], Value::Null, "no number rather than a wrong one: {billing}");
    let ran = house.run(&["--group", "billing"]).await;
    assert!(ran.out.contains("the topic parcels does not exist"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_group_is_wrong_usage() {
    let house = House::parcels(1, Duration::ZERO).await;
    let ran = house.run(&["--group", "biling"]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("there is no consumer group biling"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_kafka_is_named_within_seconds() {
    let house = House::new().await;
    for broker in ["127.0.0.1:1", "192.0.2.1:9092"] {
        let mut command = house.command(&[]);
        command.env("KAFKA_BROKERS", broker);
        let start = Instant::now();
        let ran = run(command).await;
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("connect to Kafka") && ran.err.contains("KAFKA_BROKERS"),
            "{ran:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
