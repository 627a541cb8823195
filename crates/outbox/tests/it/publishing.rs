use sandbox::testing::eventually;

use crate::house::*;

#[tokio::test]
async fn what_commits_is_published_as_it_was_prepared_and_what_rolls_back_never_is() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    let order = "P-1";
    let mut rolled_back = house.pool.begin().await.unwrap();
    outbox::append(&mut rolled_back, &[shipped(order, 1)]).await.unwrap();
    rolled_back.rollback().await.unwrap();
    let committed = shipped(order, 2);
    house.write(std::slice::from_ref(&committed)).await;
    house.drained().await;

    let records = house.published();
    assert_eq!(records.len(), 1);
    let published = kafka::decode(&records[0]).unwrap().envelope;
    assert_eq!(&published, committed.envelope());
    assert_eq!(published.tracestate.as_deref(), Some("vendor=1"), "it travels with traceparent");
    assert_eq!(number(&records[0]), 2);
    assert_eq!(records[0].key, Some(order.as_bytes().to_vec()));
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn rows_that_commit_out_of_order_are_all_published() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    let mut early = house.pool.begin().await.unwrap();
    outbox::append(&mut early, &[shipped("P-1", 1)]).await.unwrap();
    house.write(&[shipped("P-2", 2)]).await;
    house.drained().await; // the later id is published and deleted
    early.commit().await.unwrap();
    house.drained().await; // nobody woke the relay: it polls
    let mut numbers: Vec<_> = house.published().iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_backlog_of_many_batches_is_published_once_and_in_order() {
    let house = House::new().await;
    let parcels: Vec<_> = (0..40).map(|key| format!("P-{key}")).collect();
    for number in 1..=50 {
        let events: Vec<_> = parcels.iter().map(|order| shipped(order, number)).collect();
        house.write(&events).await;
    }
    let (shutdown, relay) = house.relay();
    house.drained().await;
    let records = house.published();
    assert_eq!(records.len(), 40 * 50, "each once: what is under way is not selected again");
    let all: Vec<_> = (1..=50).collect();
    assert!(first_deliveries(&records).values().all(|numbers| *numbers == all));
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_topic_that_is_not_there_waits_and_the_others_go_on() {
    let house = House::new().await;
    let order = "P-1";
    house.write(&[shipped(order, 1), shipped(order, 2)]).await;
    // What Kafka refuses for good, and an operator can mend.
    sqlx::query(
        "update outbox set topic = 'no.such.topic/' where id = (select min(id) from outbox)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let (shutdown, relay) = house.relay();
    let left = async || (house.waiting().await == 1).then_some(());
    eventually("the other topic's event to be published", PATIENCE, left).await;

    sqlx::query("update outbox set topic = 'parcel.shipped'").execute(&house.pool).await.unwrap();
    house.drained().await;
    assert_eq!(first_deliveries(&house.published())[order.as_bytes()], [2, 1]);
    shutdown.cancel();
    relay.await.unwrap();
}
