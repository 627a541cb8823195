//! Tests of events that arrive by a feed and by Kafka concurrently.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use consumer::{Consumer, Failure, Feed, Handler, Outcome, Received, Subscription};
use envelope::{Encoded, RawEvent};
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::events::{ParcelId, ParcelPacked};
use crate::house::House;

/// Takes its time over version 2, and says when it has begun.
struct Slow(Arc<Notify>);

impl Handler for Slow {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        _tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        if events.iter().any(|event| event.envelope.version == Some(2)) {
            self.0.notify_one();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

async fn take(feed: &Feed, event: &Encoded) -> Outcome {
    let (envelope, data) = (event.envelope.clone(), Cow::Borrowed(&*event.data));
    feed.take(RawEvent { envelope, data, ignored: Vec::new() }).await.unwrap()
}

#[tokio::test]
async fn the_first_versions_of_a_subject_that_come_at_once_are_told_apart() {
    let house = House::new().await;
    let begun = Arc::new(Notify::new());
    let subscription = Subscription::new("group").latest_wins(Slow(Arc::clone(&begun)));
    let (pool, settings) = (house.pool.clone(), house.settings.clone());
    let meter = house.metrics.meter("consumer");
    let feed = Consumer::new(subscription, pool, settings, &meter).feed();
    let parcel = ParcelId::new();
    let [one, two, three] =
        [1, 2, 3].map(|version| house.event::<ParcelPacked>(parcel, version, "a@example.com"));

    let second = async {
        begun.notified().await;
        // Its transaction has not ended, so there is no row that could be seen.
        tokio::join!(take(&feed, &one), take(&feed, &three))
    };
    let (two, (one, three)) = tokio::join!(take(&feed, &two), second);
    assert_eq!(two, Outcome::Processed);
    assert_eq!(three, Outcome::Processed);
    assert_eq!(one, Outcome::Superseded);
    let applied: i64 = sqlx::query_scalar("select version from applied_version")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(applied, 3);
}
