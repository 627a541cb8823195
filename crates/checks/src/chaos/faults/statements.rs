//! A statement of one message ends the session that executes it, in each attempt.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection};
use tokio::time::sleep;
use uuid::Uuid;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::load::Placed;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::written;

const BEFORE: usize = 100;
const MEANWHILE: usize = 100;
const AFTERWARDS: usize = 50;
/// Longer than it takes to dead-letter the message, if its attempts counted: its retries take up to
/// 13 s.
const LASTS: Duration = Duration::from_secs(20);
/// Maximum time that other orders wait for their invoices. The lane's batch is interrupted by each
/// attempt.
const NO_DELAY: Duration = Duration::from_secs(5);

pub(crate) async fn kills_backend(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let mut orders = scene.system.database("order").await?;
    let mut tx = orders.begin().await?;
    // The trigger has to exist before the order's event is published.
    let deadly = *written::write(&mut tx, 1).await?.first().ok_or("no order was written")?;
    execute(scene, &kill_backend_for(deadly)).await?;
    tx.commit().await?;
    orders.close().await?;
    scene.written.push(Placed { id: deadly, completed: true, cancelled: false });
    let parked = soon(async || is_parked(scene).await).await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while began.elapsed() < LASTS {
        scene.orders(MEANWHILE).await?;
        slowest = slowest.max(others_invoiced(scene, deadly).await?);
        // Between two rounds, so that they begin at different moments of the wait before a retry.
        sleep(Duration::from_millis(fastrand::u64(100..500))).await;
    }
    let readiness = scene.billing.readiness().await?;
    let invoiced = invoiced(scene).await?.contains(&deadly);
    let still_parked = is_parked(scene).await;
    execute(scene, "drop trigger kill_backend on invoices").await?;
    scene.healed();
    // A message whose attempts count is not parked any more; the books show its dead letter.
    let blamed = scene.billing.metric("consumer_dead_lettered_total", "").await > 0.0;
    if !blamed && (!parked || !still_parked) {
        return Err(format!("billing did not report that a key is parked: {readiness}").into());
    }
    if invoiced {
        return Err("the order whose statement kills its backend has an invoice".into());
    }
    if slowest > NO_DELAY {
        return Err(format!("other orders waited {slowest:.1?} for their invoices").into());
    }
    scene.orders(AFTERWARDS).await?;
    let key = if blamed { "blamed" } else { "parked" };
    Ok(format!("one key was {key}, other orders had their invoices within {slowest:.1?}"))
}

/// Returns the trigger. Its function runs with the privileges of the superuser who creates it,
/// since billing may not end sessions.
fn kill_backend_for(order: Uuid) -> String {
    format!(
        "create function kill_backend() returns trigger language plpgsql security definer as $$
         begin
             perform pg_terminate_backend(pg_backend_pid());
             return new;
         end $$;
         create trigger kill_backend before insert on invoices
             for each row when (new.order_id = '{order}') execute function kill_backend()"
    )
}

async fn execute(scene: &Scene, sql: &str) -> Result<(), Error> {
    let mut database = scene.system.database("billing").await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut database).await?;
    Ok(database.close().await?)
}

async fn is_parked(scene: &Scene) -> bool {
    let readiness = scene.billing.readiness().await;
    readiness.is_ok_and(|readiness| readiness.to_string().contains("1 key is parked"))
}

/// Waits until all currently completed orders except one have their invoices. Returns the time that
/// took.
async fn others_invoiced(scene: &Scene, but: Uuid) -> Result<Duration, Error> {
    let mut database = scene.system.database("order").await?;
    let completed: Vec<Uuid> =
        sqlx::query_scalar("select id from orders where status = 'completed' and id <> $1")
            .bind(but)
            .fetch_all(&mut database)
            .await?;
    database.close().await?;
    let asked = Instant::now();
    let have_all = async || {
        invoiced(scene).await.is_ok_and(|have| completed.iter().all(|order| have.contains(order)))
    };
    if soon(have_all).await {
        Ok(asked.elapsed())
    } else {
        Err("other orders got no invoices while one killed its backend".into())
    }
}

async fn invoiced(scene: &Scene) -> Result<HashSet<Uuid>, Error> {
    let mut database = scene.system.database("billing").await?;
    let orders: Vec<Uuid> =
        sqlx::query_scalar("select order_id from invoices").fetch_all(&mut database).await?;
    database.close().await?;
    Ok(orders.into_iter().collect())
}
