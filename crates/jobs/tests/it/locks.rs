//! Tests of the order of locks: several jobs are locked by ascending id, since two transactions
//! that lock the same jobs would otherwise deadlock.

use std::time::Duration;

use jobs::{Meta, State};
use uuid::Uuid;

use crate::house::{House, Work};

/// Locks the first of two jobs, and checks that a worker which waits for it has not locked the
/// second one meanwhile.
async fn the_second_is_free_while_the_first_is_waited_for(house: &House, ids: [Uuid; 2]) {
    let mut tx = house.pool.begin().await.unwrap();
    jobs::lock(&mut tx, &ids[..1]).await.unwrap();
    house.until_waiting_for_a_lock().await;
    let free = sqlx::query("select from job where id = $1 for update nowait").bind(ids[1]);
    free.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

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
async fn what_a_worker_has_is_given_back_in_the_order_of_ids() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_mins(1);
    house.options.drain = Duration::from_millis(50);
    let running = house.run(house.endless::<Work>());
    let ids = two_running_jobs(&house).await;
    tokio::join!(running.end(), the_second_is_free_while_the_first_is_waited_for(&house, ids));
}
