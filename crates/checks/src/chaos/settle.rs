//! Waits until all events are processed.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::Error;
use super::letters::{self, ADA};
use super::scene::Scene;
use super::topics::{self, Offsets};

/// Maximum time to catch up after the fault is healed.
pub(crate) const HEAL: Duration = Duration::from_secs(30);
/// Additional time before the books are read, so that late effects are not taken for lost ones.
const LATE: Duration = Duration::from_secs(30);

/// Time limit of notification's jobs: longer than the wait before a second retry.
const SENDING: Duration = Duration::from_secs(90);
/// Time limit if there are more jobs than [`BACKLOG`]. Jobs that are still processed then are not
/// lost.
const SENDING_BACKLOG: Duration = Duration::from_secs(20);
const BACKLOG: i64 = 1_000;
/// Maximum time until the next job ends: longer than the lease of a job whose worker died, and than
/// the wait before a second retry.
const NEXT_JOB: Duration = Duration::from_secs(75);

/// Waits until no event waits in an outbox and billing has no lag. Returns the time since the fault
/// was healed, or `None` if that did not happen in time.
pub(crate) async fn caught_up(scene: &Scene) -> Option<Duration> {
    let healed = scene.healed_at();
    while healed.elapsed() < HEAL + LATE {
        if is_quiet(scene).await.unwrap_or(false) {
            return Some(healed.elapsed());
        }
        sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Waits until notification and analytics have processed their events, with the same time limit.
pub(crate) async fn others_caught_up(scene: &Scene) {
    let healed = scene.healed_at();
    while healed.elapsed() < HEAL + LATE {
        if others_have_consumed_all(scene).await.unwrap_or(false) {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until every dead letter of billing has its copy, with the same time limit.
pub(crate) async fn letters_copied(scene: &Scene) {
    let healed = scene.healed_at();
    while healed.elapsed() < HEAL + LATE && letters_to_copy(scene).await.unwrap_or(1) > 0 {
        sleep(Duration::from_millis(200)).await;
    }
}

async fn letters_to_copy(scene: &Scene) -> Result<i64, Error> {
    let mut billing = scene.system.database("billing").await?;
    let left = sqlx::query_scalar("select count(*) from dead_letter where copied_at is null");
    Ok(left.fetch_one(&mut billing).await?)
}

/// Waits until notification has no unfinished job. Returns the number of unfinished jobs if few are
/// left at the end of the time, or if of a backlog none has ended for a while.
pub(crate) async fn stuck_sends(scene: &Scene) -> Option<i64> {
    let began = Instant::now();
    let (mut fewest, mut since) = (jobs_left(scene).await.unwrap_or(i64::MAX), began);
    let limit = |left| if left > BACKLOG { SENDING_BACKLOG } else { SENDING };
    while began.elapsed() < limit(fewest) && since.elapsed() < NEXT_JOB {
        match jobs_left(scene).await {
            Ok(0) => return None,
            Ok(left) if left < fewest => (fewest, since) = (left, Instant::now()),
            Ok(_) | Err(_) => {}
        }
        sleep(Duration::from_millis(200)).await;
    }
    (fewest <= BACKLOG || since.elapsed() >= NEXT_JOB).then_some(fewest)
}

/// Returns the number of e-mails and webhooks that are to be sent, without failed ones.
async fn jobs_left(scene: &Scene) -> Result<i64, Error> {
    let mut database = scene.system.database("notification").await?;
    let left = sqlx::query_scalar("select count(*) from job where failed_at is null");
    Ok(left.fetch_one(&mut database).await?)
}

/// Compares numbers only; the invariants check each row.
async fn others_have_consumed_all(scene: &Scene) -> Result<bool, Error> {
    let count = async |service: &str, sql: &'static str| {
        let mut database = scene.system.database(service).await?;
        Ok::<i64, Error>(sqlx::query_scalar(sql).fetch_one(&mut database).await?)
    };
    let orders = count("order", "select count(*) from orders").await?;
    let sold = "select count(*) from orders where completed_at is not null";
    let cancelled = "select count(*) from orders where cancelled_at is not null";
    let credited =
        "select count(*) from orders where completed_at is not null and cancelled_at is not null";
    let emails = "select count(*) from emails where kind != 'acknowledgement'";
    let (sold_in_all, cancelled_in_all) =
        (count("order", sold).await?, count("order", cancelled).await?);
    let written = 2 * sold_in_all + cancelled_in_all + count("order", credited).await?;
    Ok(count("notification", emails).await? >= written
        && count("analytics", "select count(*) from orders").await? >= orders
        && count("analytics", sold).await? >= sold_in_all
        && count("analytics", cancelled).await? >= cancelled_in_all)
}

/// Returns `true` if billing has processed what was on its topics when they had these
/// [ends](topics::ends_for_billing). Its lag would not show that, since orders arrive all the time.
pub(crate) fn billing_has_reached(scene: &Scene, ends: &Offsets) -> bool {
    topics::progress(&scene.system.kafka()).is_ok_and(|progress| {
        ends.iter().all(|(partition, end)| progress.committed.get(partition) >= Some(end))
    })
}

/// Checks the outbox first: an event that leaves it later is part of the lag by then.
async fn is_quiet(scene: &Scene) -> Result<bool, Error> {
    Ok(waiting(scene, "order").await? == 0
        && topics::progress(&scene.system.kafka())?.lag == 0
        && topics::lag(&scene.system.kafka(), topics::CREDITS, "order.cancelled")? == 0
        && waiting(scene, "billing").await? == 0)
}

/// Returns the number of events that wait in the outbox of a service.
pub(crate) async fn waiting(scene: &Scene, service: &str) -> Result<i64, Error> {
    let mut database = scene.system.database(service).await?;
    Ok(sqlx::query_scalar("select count(*) from outbox").fetch_one(&mut database).await?)
}

/// Replays every dead letter of billing, as an operator does, and waits until that is done.
pub(crate) async fn replay(scene: &Scene) -> Result<(), Error> {
    let all = json!({ "group": "billing", "filter": {}, "why": "healed" });
    // There may be no dead letters.
    if let Some(replay) = letters::request(&scene.billing, ADA, &all).await? {
        letters::ended(&scene.billing, &replay).await?;
    }
    Ok(())
}
