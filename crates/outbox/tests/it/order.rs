use std::time::Duration;

use crate::house::*;

#[tokio::test]
async fn a_transaction_that_commits_late_is_followed_by_the_next_one_of_its_key() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    let mut late = house.pool.begin().await.unwrap();
    outbox::append(&mut late, &[shipped("P-1", 1)]).await.unwrap();
    for number in 1..=20 {
        house.write(&[shipped("P-2", number)]).await;
        tokio::time::sleep(Duration::from_millis(50)).await; // so that the relay has gone on
    }
    house.drained().await;
    late.commit().await.unwrap();
    house.write(&[shipped("P-1", 2)]).await;
    house.drained().await;
    assert_eq!(all_deliveries(&house.published())[&b"P-1"[..]], [1, 2]);
    shutdown.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn events_that_are_put_back_by_hand_with_their_old_ids_are_published() {
    let house = House::new().await;
    let (shutdown, relay) = house.relay();
    house.write(&[shipped("P-1", 1)]).await;
    house.drained().await;
    house.write(&(2..=50).map(|number| shipped("P-2", number)).collect::<Vec<_>>()).await;
    house.drained().await;
    tokio::time::sleep(Duration::from_secs(2)).await; // so that the relay begins behind them
    let mut by_hand = house.pool.begin().await.unwrap();
    outbox::append(&mut by_hand, &[shipped("P-3", 1)]).await.unwrap();
    sqlx::raw_sql(
        "create temporary table kept on commit drop as select * from outbox; delete from outbox;
         insert into outbox (id, shard, topic, key, headers, payload, created_at) overriding system value
         select 1, shard, topic, key, headers, payload, created_at from kept",
    )
    .execute(&mut *by_hand)
    .await
    .unwrap();
    by_hand.commit().await.unwrap();
    let gone = async || (house.waiting().await == 0).then_some(());
    sandbox::testing::eventually("it to be found", Duration::from_mins(1), gone).await;
    assert_eq!(all_deliveries(&house.published())[&b"P-3"[..]], [1]);
    shutdown.cancel();
    relay.await.unwrap();
}
