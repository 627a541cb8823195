use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use sandbox::testing::{TestSpace, eventually};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};

async fn setting(pool: &PgPool, name: &str) -> String {
    sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn sessions_have_time_limits_and_a_name() {
    let space = TestSpace::new().await;
    let database: PgConnectOptions = space.database_url().parse().unwrap();
    let pool = pg::PoolOptions::new("billing")
        .statement_timeout(Duration::from_millis(1500))
        .connect_lazily(database);
    assert_eq!(setting(&pool, "application_name").await, "billing");
    assert_eq!(setting(&pool, "statement_timeout").await, "1500ms");
    assert_eq!(setting(&pool, "lock_timeout").await, "5s");
    assert_eq!(setting(&pool, "idle_in_transaction_session_timeout").await, "15s");
}

#[tokio::test]
async fn a_connection_that_was_lost_while_idle_costs_its_user_nothing() {
    let space = TestSpace::new().await;
    let database: PgConnectOptions = space.database_url().parse().unwrap();
    let pool = pg::PoolOptions::new("idle").max_connections(1).connect_lazily(database);
    setting(&pool, "application_name").await;

    let mut other = PgConnection::connect(space.database_url()).await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = 'idle'
         and datname = current_database()",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(ended, 1);
    // Longer than a connection is trusted without a ping.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(setting(&pool, "application_name").await, "idle");
}

#[tokio::test]
async fn an_unavailable_server_is_no_error_until_a_connection_is_needed() {
    let database: PgConnectOptions = "postgres://nobody@127.0.0.1:1/nowhere".parse().unwrap();
    let pool = pg::PoolOptions::new("nowhere")
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazily(database);
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(pg::classify(&error), pg::ErrorClass::Unavailable, "{error}");
}

#[tokio::test]
async fn a_begin_that_is_dropped_leaves_no_transaction_open() {
    let space = TestSpace::new().await;
    let database: PgConnectOptions = space.database_url().parse().unwrap();
    let pool = pg::PoolOptions::new("dropped").max_connections(1).connect_lazily(database);
    sqlx::raw_sql("create table written (n integer)").execute(&pool).await.unwrap();
    let mut dropped = 0;
    for n in 0..20 {
        let is_idle = async || (pool.num_idle() == 1).then_some(());
        eventually("the connection to return", Duration::from_secs(10), is_idle).await;
        // Polled once, so that it is mostly dropped before Postgres has answered.
        let mut begin = Box::pin(pool.begin());
        let is_pending = poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx).is_pending())).await;
        dropped += u32::from(is_pending);
        drop(begin);
        sqlx::query("insert into written values ($1)").bind(n).execute(&pool).await.unwrap();
    }
    assert!(dropped > 0);
    let mut other = PgConnection::connect(space.database_url()).await.unwrap();
    let count = sqlx::query_scalar("select count(*) from written");
    let written: i64 = count.fetch_one(&mut other).await.unwrap();
    assert_eq!(written, 20);
}
