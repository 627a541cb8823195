use sqlx::{Connection, PgConnection};

use crate::house::*;

/// Publishes some events one by one, and ends the relay.
async fn publish_some(house: &House) {
    let (shutdown, relay) = house.relay();
    for number in 1..=100 {
        house.write(&[shipped("P-1", number)]).await;
        let gone = async || {
            let there = "select exists (select from outbox where topic = 'parcel.shipped')";
            let there: bool = sqlx::query_scalar(there).fetch_one(&house.pool).await.unwrap();
            (!there).then_some(())
        };
        sandbox::testing::eventually("it to be published", PATIENCE, gone).await;
    }
    shutdown.cancel();
    relay.await.unwrap();
    house.sessions_ended().await;
}

#[tokio::test]
async fn an_old_snapshot_does_not_make_each_scan_walk_over_dead_rows() {
    let house = House::new().await;
    house.fill("parcel.shipped", 20_000, 16).await;
    let mut backup = PgConnection::connect(house.space.database_url()).await.unwrap();
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from outbox")
        .execute(&mut backup)
        .await
        .unwrap();
    let (shutdown, relay) = house.relay();
    house.drained().await;
    shutdown.cancel();
    relay.await.unwrap();
    house.sessions_ended().await;
    let before = house.index_entries_read().await;
    publish_some(&house).await;
    let read = house.index_entries_read().await - before;
    // Once at the start and once for the depth; each scan would be 2,000,000.
    assert!(read < 200_000, "{read}");
    backup.close().await.unwrap();
}

#[tokio::test]
async fn a_relay_with_some_of_the_shards_does_not_walk_over_the_backlog_of_the_others() {
    let house = House::new().await;
    // Shards 0 to 7 belong to a relay that does nothing.
    let mut idle = PgConnection::connect(house.space.database_url()).await.unwrap();
    sqlx::raw_sql(
        "select pg_advisory_lock_shared(1870034018 # 'outbox'::regclass::oid::int4, -1);
         select pg_advisory_lock(1870034018 # 'outbox'::regclass::oid::int4, n) from generate_series(0, 7) n",
    )
    .execute(&mut idle)
    .await
    .unwrap();
    house.fill("parcel.shipped", 50_000, 8).await;
    sqlx::query("update outbox set topic = 'parcel.other'").execute(&house.pool).await.unwrap();
    sqlx::raw_sql("vacuum outbox").execute(&house.pool).await.unwrap();
    let before = house.index_entries_read().await;
    // This key is in shard 15.
    publish_some(&house).await;
    let read = house.index_entries_read().await - before;
    assert!(read < 400_000, "the depth is counted a few times, and nothing else: {read}");
    idle.close().await.unwrap();
}
