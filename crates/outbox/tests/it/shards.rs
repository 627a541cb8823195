use std::time::Duration;

use sandbox::PgBouncer;
use sandbox::testing::eventually;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};

use crate::house::*;

#[tokio::test]
async fn relays_share_the_shards_and_take_over_in_order() {
    const KEYS: usize = 20;
    const EACH: i64 = 100;
    let house = House::new().await;
    let (_, first) = house.relay();
    house.shares(&[16]).await;
    let (shutdown, second) = house.relay();
    house.shares(&[8, 8]).await;

    let parcels: Vec<_> = (0..KEYS).map(|key| format!("P-{key}")).collect();
    for number in 1..=EACH {
        let batch: Vec<_> = parcels.iter().map(|order| shipped(order, number)).collect();
        house.write(&batch).await;
        if number == EACH / 2 {
            first.abort(); // dies without a word, with records under way
        }
    }
    house.drained().await;
    house.shares(&[16]).await;
    let delivered = first_deliveries(&house.published());
    assert_eq!(delivered.len(), KEYS);
    for numbers in delivered.values() {
        assert_eq!(*numbers, (1..=EACH).collect::<Vec<_>>());
    }
    shutdown.cancel();
    second.await.unwrap();
}

#[tokio::test]
async fn a_relay_whose_sessions_a_pooler_shares_says_so_and_publishes_nothing() {
    let house = House::new().await;
    let url = house.space.database_url();
    let Some(bouncer) = PgBouncer::start(url, "transaction", &[]).await else { return };
    let pooled = bouncer.url().parse::<PgConnectOptions>().unwrap().extra_float_digits(None);
    let pooled = house.beside(PgPool::connect_lazy_with(pooled));
    let (shutdown, relay, status) = pooled.relay_with_status();
    house.write(&[shipped("P-1", 1)]).await;
    let loss = eventually("the relay to refuse", PATIENCE, async || status.loss()).await;
    assert!(loss.contains("pool_mode=transaction"), "{loss}");
    assert_eq!(house.waiting().await, 1);
    shutdown.cancel();
    relay.await.unwrap();
}

/// The class of the locks that relays up to version 0.1 take.
const FORMER_CLASS: i32 = 0x6f75_7462;

async fn lock(session: &mut PgConnection, sql: &'static str, key: i32) {
    sqlx::query(sql).bind(FORMER_CLASS).bind(key).execute(session).await.unwrap();
}

async fn locks_of_former_class(house: &House) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_locks where locktype = 'advisory' and classid::int8 = $1
        and database = (select oid from pg_database where datname = current_database())",
    )
    .bind(i64::from(FORMER_CLASS))
    .fetch_one(&house.pool)
    .await
    .unwrap()
}

async fn members_of_former_class(house: &House) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_locks where locktype = 'advisory' and classid::int8 = $1 and objid::int8 = 4294967295
        and database = (select oid from pg_database where datname = current_database())",
    )
    .bind(i64::from(FORMER_CLASS))
    .fetch_one(&house.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_relay_of_the_former_release_is_left_its_share_until_it_ends() {
    let house = House::new().await;
    let mut former = PgConnection::connect(house.space.database_url()).await.unwrap();
    lock(&mut former, "select pg_advisory_lock_shared($1, $2)", -1).await;
    for shard in 0..8 {
        lock(&mut former, "select pg_advisory_lock($1, $2)", shard).await;
    }
    let (shutdown, relay) = house.relay();
    // Each of its shards by two locks, and no more than its share.
    let shares = async || (locks_of_former_class(&house).await == 9 + 9).then_some(());
    eventually("a share beside the former relay", PATIENCE, shares).await;
    let has_half = async || ((house.metric("outbox_shards") - 8.0).abs() < 0.5).then_some(());
    eventually("half of the shards", PATIENCE, has_half).await;

    former.close().await.unwrap();
    let has_all = async || ((house.metric("outbox_shards") - 16.0).abs() < 0.5).then_some(());
    eventually("all shards", PATIENCE, has_all).await;
    assert_eq!(locks_of_former_class(&house).await, 0, "nobody needs them any more");
    shutdown.cancel();
    relay.await.unwrap();
}

async fn in_schema(house: &House, schema: &'static str) -> House {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create schema {schema}")))
        .execute(&house.pool)
        .await
        .unwrap();
    let options: PgConnectOptions = house.space.database_url().parse().unwrap();
    let pool = PgPool::connect_with(options.options([("search_path", schema)])).await.unwrap();
    outbox::migrate(&pool).await.unwrap();
    house.beside(pool)
}

#[tokio::test]
async fn two_schemas_of_a_database_do_not_share_locks() {
    let house = House::new().await;
    let (one, other) = (in_schema(&house, "one").await, in_schema(&house, "other").await);
    let relays = [one.relay(), other.relay()];
    one.write(&[shipped("P-1", 1)]).await;
    other.write(&[shipped("P-2", 2)]).await;
    one.drained().await;
    other.drained().await;
    for schema in [&one, &other] {
        let has_all = async || ((schema.metric("outbox_shards") - 16.0).abs() < 0.5).then_some(());
        eventually("all shards of its own", Duration::from_secs(5), has_all).await;
    }
    for (shutdown, relay) in relays {
        shutdown.cancel();
        relay.await.unwrap();
    }
}

#[tokio::test]
async fn relays_of_two_schemas_do_not_take_each_other_for_relays_of_the_former_release() {
    let house = House::new().await;
    let mut former = PgConnection::connect(house.space.database_url()).await.unwrap();
    lock(&mut former, "select pg_advisory_lock_shared($1, $2)", -1).await;
    let (one, other) = (in_schema(&house, "one").await, in_schema(&house, "other").await);
    let relays = [one.relay(), other.relay()];
    let members = async || (members_of_former_class(&house).await == 3).then_some(());
    eventually("both to take its locks too", PATIENCE, members).await;

    former.close().await.unwrap();
    let none = async || (locks_of_former_class(&house).await == 0).then_some(());
    eventually("nobody to need them any more", PATIENCE, none).await;
    for schema in [&one, &other] {
        let has_all = async || ((schema.metric("outbox_shards") - 16.0).abs() < 0.5).then_some(());
        eventually("all shards of its own", PATIENCE, has_all).await;
    }
    for (shutdown, relay) in relays {
        shutdown.cancel();
        relay.await.unwrap();
    }
}
