//! Tests of the memory that a backlog takes.

use consumer::{MemoryBudget, Subscription};

use crate::events::{ParcelId, ParcelPacked};
use crate::house::{House, note};

/// Less than one message of the test.
const LITTLE: usize = 64 * 1024;

#[tokio::test]
async fn messages_that_are_larger_than_the_budget_are_taken_one_after_the_other() {
    let house = House::new().await;
    let budget = MemoryBudget::new(LITTLE);
    let large = format!("{}@example.com", "x".repeat(2 * LITTLE));
    let parcels: [ParcelId; 12] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelPacked>(parcel, 1, &large).await;
    }
    // They share the budget, and neither waits for the other.
    let run = |group| {
        let subscription = Subscription::new(group).each_once(note::<ParcelPacked>());
        house.run_as(subscription, |consumer| consumer.memory(&budget))
    };
    let (one, other) = (run("group"), run("other"));
    for parcel in parcels {
        house.has(parcel, &[1, 1]).await;
    }
    one.end().await;
    other.end().await;
}
