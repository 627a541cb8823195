//! Tests of the isolation of test spaces on the servers of `sandbox run`.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use sandbox::testing::TestSpace;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn two_spaces_do_not_see_each_other() {
    let (one, other) = tokio::join!(TestSpace::new(), TestSpace::new());
    assert_ne!(one.topic_prefix(), other.topic_prefix());
    assert_eq!(one.kafka_brokers(), other.kafka_brokers());
    let urls = [one.database_url(), other.database_url(), &one.database("billing").await];
    for url in urls {
        let mut connection = PgConnection::connect(url).await.unwrap();
        // It would fail in a database that has the table.
        sqlx::raw_sql("create table orders (id bigint)").execute(&mut connection).await.unwrap();
    }
}
