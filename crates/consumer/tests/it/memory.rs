//! Tests of the memory that a backlog takes.

use std::sync::Arc;
use std::time::Duration;

use consumer::{Failure, Handler, MemoryBudget, Options, Received, Subscription};
use sandbox::testing::eventually;
use sqlx::PgConnection;
use tokio::sync::Semaphore;

use crate::events::{ParcelId, ParcelPacked};
use crate::house::{House, Note, PATIENCE, note};

/// Less than one message of the test.
const LITTLE: usize = 64 * 1024;

/// Handler that waits until its gate has a permit.
struct Gated {
    gate: Arc<Semaphore>,
    note: Note<ParcelPacked>,
}

impl Handler for Gated {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        drop(self.gate.acquire().await);
        self.note.handle(tx, events).await
    }
}

#[tokio::test]
async fn what_is_queued_stays_within_the_budget() {
    const SIZE: usize = 32 * 1024;
    const BUDGET: usize = 16 * SIZE;
    let house = House::new().await;
    let email = format!("{}@example.com", "x".repeat(SIZE));
    let parcels: [ParcelId; 100] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelPacked>(parcel, 1, &email).await;
    }
    let gate = Arc::new(Semaphore::new(0));
    let handler = Gated { gate: Arc::clone(&gate), note: note() };
    let options = Options { handler_timeout: Duration::from_secs(10), ..House::options() };
    let subscription = Subscription::new("group").each_once(handler);
    let running = house.run_as(subscription, |consumer| {
        consumer.options(options).memory(&MemoryBudget::new(BUDGET))
    });
    let queued = || {
        let messages = house.counter("messaging_client_consumed_messages_total", "");
        usize::try_from(messages).unwrap() * SIZE
    };
    let half = async || (queued() >= BUDGET / 2).then_some(());
    eventually("half of the budget to be used", PATIENCE, half).await;
    // Without a budget, the rest would be read within a few milliseconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(queued() <= BUDGET + SIZE, "{} bytes are queued", queued());
    gate.add_permits(1);
    for parcel in parcels {
        house.has(parcel, &[1]).await;
    }
    running.end().await;
}

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
