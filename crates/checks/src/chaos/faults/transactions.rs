//! Transactions in order's database that end late, in another order than they began, or not at all.

use std::time::Duration;

use futures::future::try_join_all;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::load::Placed;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::written;

/// How long the transaction is held: longer than the relay's session may be silent, and than the
/// statement time limit.
const HELD: Duration = Duration::from_mins(1);
const WRITERS: usize = 8;
const ORDERS_OF_EACH: usize = 25;

pub(crate) async fn held_open(scene: &mut Scene) -> Evidence {
    let mut database = scene.system.database("order").await?;
    let mut tx = database.begin().await?;
    let held = write_order(&mut tx).await?;
    let began = tokio::time::Instant::now();
    scene.orders(200).await?;
    let mut other = scene.system.database("order").await?;
    let mut passed = false;
    while began.elapsed() < HELD {
        // Later ids are gone, so they were published before the held one.
        let left: i64 = sqlx::query_scalar("select count(*) from outbox where id < $1 + 200")
            .bind(held.last_event)
            .fetch_one(&mut other)
            .await?;
        passed |= left == 0;
        sleep(Duration::from_millis(500)).await;
    }
    tx.commit().await?;
    scene.written.push(held.placed());
    scene.healed();
    database.close().await?;
    other.close().await?;
    if !passed {
        return Err("the outbox did not drain past the transaction that was held".into());
    }
    scene.orders(50).await?;
    Ok(format!("200 later events were published while event {} was held", held.last_event))
}

pub(crate) async fn out_of_order(scene: &mut Scene) -> Evidence {
    scene.orders(50).await?;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(write_slowly(scene.system.database("order").await?));
    }
    let mut written: Vec<Written> = try_join_all(writers).await?.into_iter().flatten().collect();
    scene.healed();
    written.sort_by_key(|order| order.committed_at);
    let overtaken =
        written.windows(2).filter(|pair| pair[0].last_event > pair[1].last_event).count();
    for order in &written {
        if order.rolled_back {
            scene.never.push(order.id);
        } else {
            scene.written.push(order.placed());
        }
    }
    let drained = async || {
        crate::chaos::settle::waiting(scene, "order").await.is_ok_and(|waiting| waiting < 50)
    };
    soon(drained).await;
    scene.orders(50).await?;
    if overtaken == 0 {
        return Err("every transaction committed in the order of its ids".into());
    }
    Ok(format!("{overtaken} transactions committed before one with an earlier id"))
}

/// An order that was written to the database directly.
struct Written {
    id: Uuid,
    last_event: i64,
    committed_at: tokio::time::Instant,
    rolled_back: bool,
}

impl Written {
    fn placed(&self) -> Placed {
        Placed { id: self.id, completed: true, cancelled: false }
    }
}

/// Writes orders one by one, and commits each some time after it got its ids; one of five is rolled
/// back.
async fn write_slowly(mut database: PgConnection) -> Result<Vec<Written>, Error> {
    let mut all = Vec::new();
    for n in 0..ORDERS_OF_EACH {
        let mut tx = database.begin().await?;
        let mut written = write_order(&mut tx).await?;
        sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        written.rolled_back = n % 5 == 4;
        if written.rolled_back {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        written.committed_at = tokio::time::Instant::now();
        all.push(written);
    }
    database.close().await?;
    Ok(all)
}

/// Writes an order. Returns it with the last id of its events.
async fn write_order(tx: &mut PgConnection) -> Result<Written, Error> {
    let ids = written::write(tx, 1).await?;
    let id = *ids.first().ok_or("no order was written")?;
    let last_event = sqlx::query_scalar("select max(id) from outbox where key = $1")
        .bind(id.to_string())
        .fetch_one(tx)
        .await?;
    Ok(Written { id, last_event, committed_at: tokio::time::Instant::now(), rolled_back: false })
}
