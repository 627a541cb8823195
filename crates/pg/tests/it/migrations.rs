use std::time::Duration;

use pg::{ErrorClass, Migrations};
use sandbox::testing::TestSpace;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgPool, SqlSafeStr};

use crate::log::Log;

const TABLE: &str = "_note_migrations";

/// Two migrations of a release, and a third one of the next release.
const SCHEMA: [&str; 3] = [
    "create table note (id int)",
    "alter table note add text text",
    "alter table note add at timestamptz default now()",
];

fn release(statements: &[&'static str]) -> Migrations {
    let migration = |(version, sql): (i64, &&'static str)| {
        let description = "note".into();
        Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrations = (1..).zip(statements).map(migration).collect();
    Migrations::new(Migrator::with_migrations(migrations), TABLE)
}

async fn database() -> (TestSpace, PgPool) {
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    (space, pool)
}

async fn versions(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select version from _note_migrations order by version")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn each_migration_is_applied_once() {
    let (_space, pool) = database().await;
    let (log, _guard) = Log::record();
    release(&SCHEMA[..1]).run(&pool).await.unwrap();
    release(&SCHEMA[..2]).run(&pool).await.unwrap();
    release(&SCHEMA[..2]).run(&pool).await.unwrap();
    sqlx::query("insert into note values (1, 'one')").execute(&pool).await.unwrap();
    assert_eq!(versions(&pool).await, [1, 2]);
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test]
async fn a_migration_has_no_time_limit_and_the_pool_keeps_its_own() {
    let space = TestSpace::new().await;
    let (one, other) = (limited(&space), limited(&space));
    let slow = release(&["select pg_sleep(0.5)"]);
    // The second one waits for the first one, longer than for a lock of a table.
    let (first, second) = tokio::join!(slow.run(&one), slow.run(&other));
    first.and(second).unwrap();
    assert_eq!(versions(&one).await, [1]);
    assert!(sqlx::query("select pg_sleep(0.5)").execute(&one).await.is_err());
}

/// Returns a pool of one session with short limits.
fn limited(space: &TestSpace) -> PgPool {
    pg::PoolOptions::new("note")
        .max_connections(1)
        .statement_timeout(Duration::from_millis(200))
        .setting("lock_timeout", "100ms")
        .connect_lazily(space.database_url().parse().unwrap())
}

#[tokio::test]
async fn a_migration_gives_way_to_others_while_its_table_is_locked() {
    let (space, pool) = database().await;
    release(&SCHEMA[..1]).run(&pool).await.unwrap();
    let mut dump = pool.begin().await.unwrap();
    sqlx::query("select from note").execute(&mut *dump).await.unwrap();
    let waited = release(&SCHEMA[..2]).run(&limited(&space)).await.unwrap_err();
    assert_eq!(pg::classify_chain(&waited), Some(ErrorClass::Conflict));
    dump.commit().await.unwrap();
    release(&SCHEMA[..2]).run(&limited(&space)).await.unwrap();
    assert_eq!(versions(&pool).await, [1, 2]);
}

#[tokio::test]
async fn a_release_that_is_rolled_back_starts_and_says_once_that_the_schema_is_newer() {
    let (_space, pool) = database().await;
    release(&SCHEMA).run(&pool).await.unwrap();
    let (log, _guard) = Log::record();
    release(&SCHEMA[..2]).run(&pool).await.unwrap();
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["database schema newer than this release", TABLE, "[3]"] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    assert_eq!(versions(&pool).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_migration_that_the_newer_release_skipped_is_applied() {
    let (_space, pool) = database().await;
    release(&SCHEMA[..1]).run(&pool).await.unwrap();
    sqlx::query("insert into _note_migrations values (3, 'note', now(), true, '', 0)")
        .execute(&pool)
        .await
        .unwrap();
    release(&SCHEMA[..2]).run(&pool).await.unwrap();
    assert_eq!(versions(&pool).await, [1, 2, 3]);
}

#[tokio::test]
async fn an_edited_migration_is_an_error() {
    let (_space, pool) = database().await;
    release(&SCHEMA).run(&pool).await.unwrap();
    let edited = release(&["create table note (id bigint)", SCHEMA[1]]);
    let error = edited.run(&pool).await.unwrap_err();
    assert!(matches!(error, MigrateError::VersionMismatch(1)), "{error}");
}
