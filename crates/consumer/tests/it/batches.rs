//! Tests of batches: they have the same effects as single messages.

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use consumer::{Failure, Subscription};
use kafka::rdkafka::producer::FutureRecord;
use kafka::rdkafka::util::Timeout;
use sandbox::testing::eventually;

use crate::house::{CUSTOMER, House, PATIENCE, io, note, troubled};

const PARCELS: usize = 60;

impl House {
    async fn settled(&self, count: u64) {
        let settled = async || {
            let all = self.counter("consumer_settled_total", "")
                + self.counter("consumer_dead_lettered_total", "");
            (all == count).then_some(())
        };
        eventually(&format!("{count} messages to be settled"), PATIENCE, settled).await;
    }

    /// Returns the number of messages that were handled in batches.
    fn batched(&self) -> u64 {
        self.counter("consumer_batch_size_sum", "")
    }
}

#[tokio::test]
async fn a_backlog_has_each_effect_once_and_in_order() {
    let house = House::new().await;
    let parcels: Vec<_> = (0..PARCELS).map(|_| ParcelId::new()).collect();
    for parcel in &parcels {
        house.send_times::<ParcelPacked>(2, *parcel, 1, "a@example.com").await;
        house.send::<ParcelPacked>(*parcel, 2, "a@example.com").await;
    }
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.settled(3 * PARCELS as u64).await;
    for parcel in &parcels {
        assert_eq!(house.effects(*parcel).await, [1, 2]);
    }
    assert_eq!(house.counter("consumer_settled_total", "duplicate"), PARCELS as u64);
    assert!(house.batched() > PARCELS as u64, "most of it in batches: {}", house.batched());
    running.end().await;
}

#[tokio::test]
async fn the_latest_wins_within_a_batch_too() {
    let house = House::new().await;
    let parcels: Vec<_> = (0..PARCELS).map(|_| ParcelId::new()).collect();
    for parcel in &parcels {
        for version in [2, 1, 3] {
            house.send::<ParcelPacked>(*parcel, version, "a@example.com").await;
        }
    }
    let subscription = Subscription::new("group")
        .latest_wins(note::<ParcelPacked>())
        .latest_wins(note::<ParcelShipped>());
    let running = house.run(subscription);
    house.settled(3 * PARCELS as u64).await;
    for parcel in &parcels {
        assert_eq!(house.effects(*parcel).await, [2, 3]);
    }
    assert_eq!(house.counter("consumer_settled_total", "superseded"), PARCELS as u64);
    assert_eq!(house.counter("consumer_gaps_total", ""), PARCELS as u64);
    assert!(house.batched() > PARCELS as u64, "most of it in batches: {}", house.batched());
    let marked: i64 = sqlx::query_scalar("select count(*) from inbox where outcome = 'superseded'")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(marked, 60);
    running.end().await;
}

#[tokio::test]
async fn bad_messages_in_a_batch_cost_their_neighbours_nothing() {
    let house = House::new().await;
    let (bad, worse) = (ParcelId::new(), ParcelId::new());
    let parcels: Vec<_> = (0..PARCELS).map(|_| ParcelId::new()).collect();
    for (index, parcel) in parcels.iter().enumerate() {
        house.send::<ParcelPacked>(*parcel, 1, "a@example.com").await;
        if index == PARCELS / 3 {
            house.send::<ParcelPacked>(bad, 1, CUSTOMER).await;
            house.send::<ParcelPacked>(bad, 2, "a@example.com").await;
        }
        if index == PARCELS / 2 {
            let topic = house.settings.prefixed("parcel.packed");
            let key = worse.to_string();
            let noise = FutureRecord::to(&topic).key(&key).payload(b"noise".as_slice());
            house.producer.send(noise, Timeout::Never).await.unwrap();
        }
    }
    let handler = troubled::<ParcelPacked>(2, || Failure::transient(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.settled(PARCELS as u64 + 3).await;
    for parcel in &parcels {
        assert_eq!(house.effects(*parcel).await, [1]);
    }
    assert_eq!(house.effects(bad).await, [1, 2]);
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1);
    assert_eq!(house.counter("consumer_retries_total", ""), 2, "the batch is no attempt");
    running.end().await;
}
