use kafka::Settings;
use sandbox::testing::eventually;

use crate::house::*;

/// Writes ten events of each of 40 keys. One is larger than the topic allows: the fifth of the
/// first key.
async fn write_one_that_is_too_large(house: &House) {
    for number in 1..=10 {
        let events: Vec<_> = (0..40)
            .map(|key| {
                sized(
                    &format!("P-{key}"),
                    number,
                    if (key, number) == (0, 5) { 50_000 } else { 500 },
                )
            })
            .collect();
        house.write(&events).await;
    }
}

#[tokio::test]
async fn a_record_that_a_topic_refuses_holds_up_its_key_alone_and_nothing_overtakes_it() {
    let house = House::new().await;
    write_one_that_is_too_large(&house).await;
    let (shutdown, relay, status) = house.relay_with_status();
    let left = async || (house.waiting().await == 6).then_some(());
    eventually("the others to be published", PATIENCE, left).await;
    house.write(&[sized("P-0", 11, 10), shipped("P-0", 1)]).await;
    let left = async || (house.waiting().await == 7).then_some(());
    eventually("the key's event in another topic to be published", PATIENCE, left).await;
    let paused = async || status.paused().pop();
    let paused = eventually("the key to be reported", PATIENCE, paused).await;
    assert_eq!((&*paused.topic, paused.keys, &*paused.partitions), ("parcel.small", 1, &[][..]));
    assert!(paused.why.contains("size too large"), "{paused}");

    let delivered = all_deliveries(&house.published_to(&SMALL));
    let all: Vec<_> = (1..=10).collect();
    assert_eq!(delivered[&b"P-0"[..]], [1, 2, 3, 4]);
    assert!((1..40).all(|key| delivered[format!("P-{key}").as_bytes()] == all));

    // An operator gives it up.
    sqlx::query("delete from outbox where octet_length(payload) > 40000")
        .execute(&house.pool)
        .await
        .unwrap();
    house.drained().await;
    let delivered = all_deliveries(&house.published_to(&SMALL));
    assert_eq!(delivered[&b"P-0"[..]], [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn small_records_are_not_refused_for_the_size_of_their_batch() {
    let house = House::new().await;
    for number in 1..=30 {
        let events: Vec<_> = (0..40).map(|key| sized(&format!("P-{key}"), number, 2_000)).collect();
        house.write(&events).await;
    }
    let (shutdown, relay) = house.relay();
    house.drained().await;
    let delivered = all_deliveries(&house.published_to(&SMALL));
    let all: Vec<_> = (1..=30).collect();
    assert!((0..40).all(|key| delivered[format!("P-{key}").as_bytes()] == all), "each once");
    assert!(house.metric("outbox_failed_total") < 0.5, "{}", house.metrics.render());
    shutdown.cancel();
    relay.await.unwrap();
}

async fn publishes_all_with(properties: &str) {
    let house = House::new().await;
    let settings = Settings::new(house.space.kafka_brokers(), house.space.topic_prefix());
    let house = House { settings: settings.with_properties(properties).unwrap(), ..house };
    for number in 1..=30 {
        let events: Vec<_> = (0..10)
            .map(|key| sized(&format!("P-{key}"), number, if number % 3 == 0 { 9_000 } else { 10 }))
            .collect();
        house.write(&events).await;
    }
    let (shutdown, relay, status) = house.relay_with_status();
    house.drained().await;
    let delivered = all_deliveries(&house.published_to(&SMALL));
    let all: Vec<_> = (1..=30).collect();
    for numbers in delivered.values() {
        assert_eq!(*numbers, all, "in order, each once");
    }
    assert!(house.metric("outbox_failed_total") < 0.5, "a full queue is no refusal");
    assert_eq!(status.paused(), []);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_full_of_records_is_waited_for() {
    publishes_all_with("queue.buffering.max.messages=5").await;
}

#[tokio::test]
async fn a_smaller_record_does_not_overtake_one_that_does_not_fit_into_the_queue() {
    publishes_all_with("queue.buffering.max.kbytes=12").await;
}
