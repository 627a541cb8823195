//! Tests that lookups by key stay lookups by key.

use consumer::{Options, Subscription};
use sandbox::testing::eventually;

use crate::events::{ParcelId, ParcelPacked};
use crate::house::{House, PATIENCE, note};

/// Number of parcels, each with two versions in transactions of their own.
const PARCELS: i64 = 150;

#[tokio::test]
async fn a_statement_planned_for_an_empty_table_does_not_read_all_versions_later() {
    let house = House::new().await;
    // Otherwise the statistics may be refreshed meanwhile, and the plans with them.
    sqlx::query("alter table applied_version set (autovacuum_enabled = off)")
        .execute(&house.pool)
        .await
        .unwrap();
    let options = Options { lanes: 1, max_batch: 1, ..House::options() };
    let subscription = Subscription::new("group").latest_wins(note::<ParcelPacked>());
    let running = house.run_with(options, subscription);
    for _ in 0..PARCELS {
        let parcel = ParcelId::new();
        house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
        house.send::<ParcelPacked>(parcel, 2, "a@example.com").await;
    }
    let handled = async || {
        let handled: i64 =
            sqlx::query_scalar("select count(*) from effect").fetch_one(&house.pool).await.unwrap();
        (handled == 2 * PARCELS).then_some(())
    };
    eventually("all to be handled", PATIENCE, handled).await;
    running.end().await;
    let read = house.space.entries_read("applied_version").await;
    // The second version finds the first by its lookup and by its conflict. The whole index each
    // time would be 22,500 or more.
    assert!((PARCELS..=3 * PARCELS).contains(&read), "{read} entries");
}
