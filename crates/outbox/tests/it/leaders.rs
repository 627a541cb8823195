//! Tests with partitions without a leader. A single real broker can't have them, so the broker is
//! librdkafka's own mock.

use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::mocking::MockCluster;
use sandbox::testing::eventually;

use crate::house::*;

#[tokio::test]
async fn a_partition_without_a_leader_holds_up_its_own_events_only() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("parcel.shipped", 6, 1).unwrap();
    cluster.create_topic("parcel.small", 6, 1).unwrap();
    cluster.partition_leader("parcel.shipped", 3, None).unwrap();
    let house = House::new().await;
    let house = House { settings: Settings::new(cluster.bootstrap_servers(), ""), ..house };
    let (shutdown, relay, status) = house.relay_with_status();

    let mut held = 0;
    for number in 1..=100 {
        let keys: Vec<_> = (0..20).map(|key| format!("P-{key}")).collect();
        let events: Vec<_> = keys.iter().map(|key| shipped(key, number)).collect();
        held += keys.iter().filter(|key| kafka::partition_of(key.as_bytes(), 6) == 3).count();
        house.write(&events).await;
    }
    assert!(held > 100, "{held}");
    let held = i64::try_from(held).unwrap();
    let others = async || (house.waiting().await == held).then_some(());
    eventually("the other partitions' events to be published", PATIENCE, others).await;

    // Others are not slower for it, in this topic and in another one.
    let live = (0..20).map(|key| format!("P-{key}"));
    let live = live.filter(|key| kafka::partition_of(key.as_bytes(), 6) != 3);
    for key in live.take(10) {
        let began = Instant::now();
        house.write(&[shipped(&key, 101), sized(&key, 1, 10)]).await;
        eventually("the live partitions", PATIENCE, others).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    let paused = async || status.paused().pop().filter(|paused| paused.why == "no leader");
    let paused = eventually("the partition to be reported", PATIENCE, paused).await;
    assert_eq!((&*paused.topic, &*paused.partitions), ("parcel.shipped", &[3][..]));

    cluster.partition_leader("parcel.shipped", 3, Some(1)).unwrap();
    house.drained().await;
    let delivered = first_deliveries(&house.published());
    for numbers in delivered.values() {
        let all: Vec<_> = (1..=i64::try_from(numbers.len()).unwrap()).collect();
        assert!(numbers.len() >= 100 && *numbers == all, "{numbers:?}");
    }
    let resumed = async || status.paused().is_empty().then_some(());
    eventually("the pause to end", PATIENCE, resumed).await;
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn large_records_that_a_dead_broker_keeps_leave_room_for_a_topic_that_is_alive() {
    const DEAD: i32 = 2;
    let cluster = MockCluster::new(2).unwrap();
    for (topic, partitions, leader) in [("parcel.shipped", 6, 1), ("still", 24, DEAD)] {
        cluster.create_topic(topic, partitions, 1).unwrap();
        for partition in 0..partitions {
            cluster.partition_leader(topic, partition, Some(leader)).unwrap();
        }
    }
    cluster.broker_down(DEAD).unwrap();
    let house = House::new().await;
    let house = House { settings: Settings::new(cluster.bootstrap_servers(), ""), ..house };
    sqlx::raw_sql(
        "insert into outbox (shard, topic, key, headers, payload)
         select n % 16, 'still', 'K-' || n, '{}', convert_to(repeat('x', 900000), 'utf8')
         from generate_series(1, 100) n",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let (shutdown, relay) = house.relay();
    // As many as it takes, two a second: each partition is found to be dead by the records that it
    // does not acknowledge.
    tokio::time::sleep(Duration::from_secs(20)).await;
    for number in 1..=20 {
        let began = Instant::now();
        house.write(&[shipped("P-1", number)]).await;
        let gone = async || (house.waiting().await == 100).then_some(());
        eventually("the live topic", PATIENCE, gone).await;
        assert!(number == 1 || began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    cluster.broker_up(DEAD).unwrap();
    house.drained().await;
    shutdown.cancel();
    relay.await.unwrap();
}
