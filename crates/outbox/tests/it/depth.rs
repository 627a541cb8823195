use kafka::Settings;
use sandbox::testing::eventually;

use crate::house::*;

#[tokio::test]
async fn without_kafka_rows_wait_and_their_number_and_age_go_on_showing() {
    let house = House::new().await;
    let away = House { settings: Settings::new("127.0.0.1:1", "t-"), ..house };
    away.write(&[shipped("P-1", 1)]).await;
    let (shutdown, relay) = away.relay();
    let is = |depth: f64| ((away.metric("outbox_depth") - depth).abs() < 0.5).then_some(());
    eventually("a depth of one", PATIENCE, async || is(1.0)).await;
    let age = away.metric("outbox_age_seconds");
    away.write(&[shipped("P-1", 2), shipped("P-2", 1)]).await;
    eventually("a depth of three", PATIENCE, async || is(3.0)).await;
    let older = async || (away.metric("outbox_age_seconds") > age + 4.0).then_some(());
    eventually("an age that grows", PATIENCE, older).await;
    shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(10), relay)
        .await
        .expect("it ends though Kafka is away")
        .unwrap();
    assert_eq!(away.waiting().await, 3, "nothing is lost");
}
