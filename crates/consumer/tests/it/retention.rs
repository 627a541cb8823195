//! Tests of the inbox's retention.

use std::time::Duration;

use crate::events::{ParcelId, ParcelPacked};
use consumer::{Options, Subscription};
use envelope::Event;
use kafka::rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use kafka::rdkafka::client::DefaultClientContext;
use sandbox::testing::eventually;

use crate::house::{House, PATIENCE, note};

#[tokio::test]
async fn nothing_is_consumed_while_the_inbox_would_forget_too_early() {
    let house = House::new().await;
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    let short =
        Options { inbox_retention: Some(Duration::from_hours(30 * 24)), ..House::options() };
    let subscription = || Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_with(short, subscription());
    running.halted().await;
    assert!(house.effects(parcel).await.is_empty());
    running.end().await;

    let running = house.run(subscription());
    house.has(parcel, &[1]).await;
    running.end().await;
}

#[tokio::test]
async fn nothing_is_consumed_from_a_compacted_topic_while_the_inbox_forgets() {
    let house = House::new().await;
    let topic = house.settings.prefixed(ParcelPacked::TYPE);
    let admin: AdminClient<DefaultClientContext> = house.settings.client().create().unwrap();
    let compacted =
        AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("cleanup.policy", "compact");
    for altered in admin.alter_configs(&[compacted], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let why = running.halted().await;
    assert!(why.contains("can arrive any time"), "{why}");
    running.end().await;
}

#[tokio::test]
async fn what_is_older_than_anything_that_can_come_is_pruned() {
    let house = House::new().await;
    sqlx::query(
        "insert into inbox (subscription, source, event_id, outcome, received_at)
         select 'group', '/warehouse', 'old-' || n, 'processed', now() - interval '46 days'
         from generate_series(1, 12000) n
         union all select 'group', '/warehouse', 'young', 'processed', now() - interval '44 days'
         union all select 'other', '/warehouse', 'old', 'processed', now() - interval '46 days'",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let pruned = async || {
        let left: Vec<String> = sqlx::query_scalar("select event_id from inbox order by event_id")
            .fetch_all(&house.pool)
            .await
            .unwrap();
        (left == ["old", "young"]).then_some(())
    };
    eventually("the old ones to be gone", PATIENCE, pruned).await;
    running.end().await;
}
