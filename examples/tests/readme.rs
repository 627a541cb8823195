//! Runs the Rust of the README.

#![allow(clippy::unwrap_used)]

use consumer::{Failure, Handler, Received, Subscription};
use envelope::{Cause, CorrelationId, NewEvent};
use examples::{Fallible, ParcelShipped};
use sandbox::testing::TestSpace;
use sqlx::{PgConnection, PgPool};

/// Does what the README does to publish an event.
async fn publish(pool: &PgPool, data: ParcelShipped, cause: Cause) -> Fallible<()> {
    let event = outbox::prepare(NewEvent::new("/warehouse", data, cause))?;
    let mut tx = pool.begin().await?;
    outbox::append(&mut tx, &[event]).await?;
    tx.commit().await?;
    Ok(())
}

struct WriteParcels;

#[rustfmt::skip]
impl Handler for WriteParcels {
    type Event = ParcelShipped;
    async fn handle(&self, tx: &mut PgConnection, events: &[Received<ParcelShipped>]) -> Result<(), Failure> {
        let parcels: Vec<_> = events.iter().map(|event| event.data.parcel.as_str()).collect();
        sqlx::query("insert into parcels select * from unnest($1::text[])").bind(parcels).execute(tx).await?;
        Ok(())
    }
}

#[test]
fn the_readme_shows_what_is_compiled_here() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let compiled: Vec<_> = include_str!("readme.rs").lines().map(str::trim).collect();
    for line in block.lines() {
        let code = line.split("//").next().unwrap().trim();
        assert!(compiled.contains(&code), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_the_readme_waits_for_the_relay() {
    let _complete = Subscription::new("warehouse").each_once(WriteParcels);
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    outbox::migrate(&pool).await.unwrap();
    let parcel = ParcelShipped { parcel: "P-1".into(), grams: 500 };
    publish(&pool, parcel, Cause::new(CorrelationId::generate())).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 1);
}
