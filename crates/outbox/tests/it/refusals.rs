use kafka::Settings;
use kafka::rdkafka::mocking::MockCluster;
use kafka::rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sandbox::testing::eventually;

use crate::house::*;
use crate::log::Log;

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

async fn publishes_nothing_after(forbid: &'static str, why: &str, permit: &'static str) {
    let house = House::new().await;
    house.write(&[shipped("P-1", 1)]).await;
    sqlx::raw_sql(forbid).execute(&house.pool).await.unwrap();
    let log = Log::begin();
    let (shutdown, relay, status) = house.relay_with_status();
    let lines_with = |text: &str| log.lines().iter().filter(|line| line.contains(text)).count();
    let reported = async || (lines_with(why) == 1).then_some(());
    eventually("the reason to be logged", PATIENCE, reported).await;
    assert_eq!(house.published().len(), 0);
    let loss = status.loss();
    assert!(loss.as_ref().is_some_and(|loss| loss.contains(why)), "{loss:?}");
    sqlx::raw_sql(permit).execute(&house.pool).await.unwrap();
    house.drained().await;
    assert_eq!(house.published().len(), 1);
    let restored = async || (lines_with("session restored") == 1).then_some(());
    eventually("the end of the loss to be logged", PATIENCE, restored).await;
    assert_eq!((lines_with("lost its session"), status.loss()), (1, None));
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn nothing_is_published_whose_row_the_role_may_not_delete() {
    publishes_nothing_after(
        "revoke delete on outbox from current_user",
        "may not delete",
        "grant delete on outbox to current_user",
    )
    .await;
}

#[tokio::test]
async fn nothing_is_published_from_a_database_that_is_read_only() {
    publishes_nothing_after(
        "alter role current_user set default_transaction_read_only = on",
        "read-only",
        "alter role current_user reset default_transaction_read_only",
    )
    .await;
}

#[tokio::test]
async fn nothing_is_taken_by_a_relay_whose_role_may_not_search_the_outbox() {
    // The server's reason follows, which the gauge of the depth logs as well.
    publishes_nothing_after(
        "revoke select on outbox from current_user",
        "session in the database failed",
        "grant select on outbox to current_user",
    )
    .await;
}

#[tokio::test]
async fn a_relay_without_any_right_to_write_says_so_once_until_it_may() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("parcel.shipped", 6, 1).unwrap();
    // It refuses two producers in turn.
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied; 2]);
    let house = House::new().await;
    let house = House { settings: Settings::new(cluster.bootstrap_servers(), ""), ..house };
    house.write(&[shipped("P-1", 1)]).await;
    let log = Log::begin();
    let (shutdown, relay, status) = house.relay_with_status();
    let why = async || status.loss().filter(|loss| loss.contains("uthorization failed"));
    eventually("the reason to be reported", PATIENCE, why).await;

    let published = async || {
        // In this order: the loss ends after the row is deleted.
        let loss = status.loss();
        let waiting = house.waiting().await;
        assert!(waiting == 0 || loss.is_some(), "it is reported until something is published");
        (waiting == 0).then_some(())
    };
    eventually("the event to be published", PATIENCE, published).await;
    let lines_with = |text: &str| log.lines().iter().filter(|line| line.contains(text)).count();
    let restored = async || (lines_with("session restored") == 1).then_some(());
    eventually("the end of the loss to be logged", PATIENCE, restored).await;
    assert_eq!((lines_with("lost its session"), status.loss()), (1, None));
    assert_eq!(house.published().len(), 1);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_row_with_a_negative_id_is_published_and_deleted() {
    let house = House::new().await;
    house.write(&[shipped("P-1", 1)]).await;
    let negative =
        "insert into outbox (id, shard, topic, key, headers, payload) overriding system value
        select -5, shard, topic, key || '0', headers, payload from outbox";
    sqlx::raw_sql(negative).execute(&house.pool).await.unwrap();
    let (shutdown, relay) = house.relay();
    house.drained().await;
    assert_eq!(house.published().len(), 2);
    shutdown.cancel();
    relay.await.unwrap();
}
