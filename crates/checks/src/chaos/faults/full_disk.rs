//! The disk of billing's database is full.

use std::time::Duration;

use tokio::time::sleep;

use super::Evidence;
use super::refusals::readiness_contains;
use crate::chaos::scene::{Scene, soon};

const BEFORE: usize = 100;
const MEANWHILE: usize = 200;
const AFTERWARDS: usize = 50;
/// Longer than it takes to dead-letter a message, if its attempts counted: its retries take up to
/// 13 s.
const LASTS: Duration = Duration::from_secs(20);
/// Much shorter than the default of 15 minutes, so that a full disk outlasts it: a refusal for lack
/// of resources must not count as a conflict of the message.
pub(crate) const CONFLICT_LIMIT: (&str, &str) = ("CONSUMER_CONFLICT_LIMIT", "5s");
/// Message of the operating system; Postgres reports it under SQLSTATE 53100.
const REASON: &str = "No space left on device";

pub(crate) async fn fills_up(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.system.disk()?.fill()?;
    // Allocated pages of the tables still have space for some rows.
    scene.orders(MEANWHILE).await?;
    let is_reported = soon(async || readiness_contains(scene, REASON).await).await;
    sleep(LASTS).await;
    let is_still_reported = readiness_contains(scene, REASON).await;
    let readiness = scene.billing.readiness().await?;
    scene.system.disk()?.empty()?;
    scene.healed();
    if !is_reported || !is_still_reported {
        return Err(format!("billing did not report {REASON:?}: {readiness}").into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing reported {REASON:?} and waited"))
}
