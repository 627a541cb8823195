//! Tests behind a real PgBouncer. Where it is not installed they print that and pass.

use std::time::Duration;

use sandbox::PgBouncer;
use sandbox::testing::TestSpace;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

fn behind(bouncer: &PgBouncer) -> PgConnectOptions {
    bouncer.url().parse::<PgConnectOptions>().unwrap().extra_float_digits(None)
}

#[tokio::test]
async fn a_connection_to_postgres_keeps_its_session() {
    let space = TestSpace::new().await;
    assert!(pg::keeps_sessions(&space.database_url().parse().unwrap()).await.unwrap());
}

#[tokio::test]
async fn sessions_that_are_pooled_as_a_whole_are_kept_with_their_limits() {
    let space = TestSpace::new().await;
    let Some(bouncer) = PgBouncer::start(space.database_url(), "session", &[]).await else {
        return;
    };
    assert!(pg::keeps_sessions(&behind(&bouncer)).await.unwrap());

    let pool = pg::PoolOptions::new("billing").connect_lazily(behind(&bouncer));
    for (name, value) in [("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "15s")] {
        let query = sqlx::query_scalar("select current_setting($1)").bind(name);
        let set: String = query.fetch_one(&pool).await.unwrap();
        assert_eq!(set, value, "{name}");
    }
}

#[tokio::test]
async fn sessions_that_change_between_transactions_are_found() {
    for setting in ["", "server_round_robin = 1", "default_pool_size = 1"] {
        let space = TestSpace::new().await;
        let bouncer = PgBouncer::start(space.database_url(), "transaction", &[setting]).await;
        let Some(bouncer) = bouncer else { return };
        if setting == "server_round_robin = 1" {
            leave_idle_sessions(&behind(&bouncer), 5).await;
        }
        let limit = Duration::from_secs(5);
        let keeps = pg::within(limit, pg::keeps_sessions(&behind(&bouncer))).await;
        assert!(matches!(keeps, Ok(false)), "{setting}: {keeps:?}");
    }
}

#[tokio::test]
async fn sessions_that_change_between_statements_are_found() {
    let space = TestSpace::new().await;
    let bouncer = PgBouncer::start(space.database_url(), "statement", &[]).await;
    let Some(bouncer) = bouncer else { return };
    assert!(!pg::keeps_sessions(&behind(&bouncer)).await.unwrap());
}

/// Makes the pooler open `count` sessions, which stay idle there.
async fn leave_idle_sessions(database: &PgConnectOptions, count: usize) {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = PgConnection::connect_with(database).await.unwrap();
        sqlx::raw_sql("begin; select 1").execute(&mut connection).await.unwrap();
        connections.push(connection);
    }
    for connection in connections {
        connection.close().await.unwrap();
    }
}
