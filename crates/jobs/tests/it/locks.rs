//! Tests of locked rows: they keep no other job of the worker waiting.

use std::time::Duration;

use jobs::{Meta, State};
use uuid::Uuid;

use crate::house::{House, Work};

/// Starts two jobs, the second of which is before the first in the table.
async fn two_running_jobs(house: &House) -> [Uuid; 2] {
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    for id in [ids[1], ids[0]] {
        house.enqueue::<Work>(Meta::new().id(id)).await;
        house.has(id, State::Running).await;
    }
    ids
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_costs_no_other_job_its_lease() {
    let house = House::new().await;
    let running = house.run(house.endless::<Work>());
    let ids = two_running_jobs(&house).await;
    let mut tx = house.pool.begin().await.unwrap();
    jobs::lock(&mut tx, &ids[..1]).await.unwrap();
    tokio::time::sleep(house.options.lease * 3).await;
    let other = house.has(ids[1], State::Running).await;
    assert_eq!((other.record.attempts, house.seen.attempts()), (1, vec![1, 1]));
    tx.rollback().await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_keeps_no_other_job_from_being_given_back() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_mins(1);
    house.options.drain = Duration::from_millis(50);
    let running = house.run(house.endless::<Work>());
    let ids = two_running_jobs(&house).await;
    let mut tx = house.pool.begin().await.unwrap();
    jobs::lock(&mut tx, &ids[..1]).await.unwrap();
    let unlocked_later = async {
        house.has(ids[1], State::Waiting).await;
        house.has(ids[0], State::Running).await;
        tx.rollback().await.unwrap();
    };
    tokio::join!(running.end(), unlocked_later);
    for id in ids {
        assert_eq!(house.has(id, State::Waiting).await.record.attempts, 0);
    }
}
