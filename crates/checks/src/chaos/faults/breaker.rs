//! A failure that outlasts all retries: the circuit breaker keeps the messages out of the dead
//! letters.

use serde_json::{Value, json};

use super::Evidence;
use crate::chaos::scene::{Scene, soon};

/// Interval of probes while the breaker is open: short, so that one succeeds soon after the cause
/// is gone.
pub(crate) const PROBE: (&str, &str) = ("CONSUMER_BREAKER_PROBE", "2s");

/// Consecutive dead letters that open the breaker, by default.
const LETTERS: f64 = 20.0;

const BEFORE: usize = 100;
const AFTERWARDS: usize = 100;

/// Makes every handler of billing fail until the breaker is open, and for a while longer.
pub(crate) async fn opens_and_closes(scene: &mut Scene) -> Evidence {
    scene.dead_by_chance = true;
    scene.orders(BEFORE).await?;
    scene.billing.set_fault(json!({ "kind": "transient" })).await?;
    if !soon(async || is(scene, "breaker open").await).await {
        let readiness = scene.billing.readiness().await?;
        return Err(format!("billing's breaker did not open: {readiness}").into());
    }
    scene.orders(AFTERWARDS).await?;
    let dead = scene.billing.metric("consumer_dead_lettered_total", "").await;
    scene.billing.set_fault(Value::Null).await?;
    scene.healed();
    if !soon(async || !is(scene, "breaker open").await).await {
        return Err("billing's breaker did not close by itself".into());
    }
    let in_all = scene.billing.metric("consumer_dead_lettered_total", "").await;
    if (dead, in_all) != (LETTERS, LETTERS) {
        return Err(format!(
            "{dead} messages were dead-lettered until it opened, {in_all} in total"
        )
        .into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("the breaker opened after {dead} dead letters, and closed by itself"))
}

async fn is(scene: &Scene, what: &str) -> bool {
    let readiness = scene.billing.readiness().await;
    readiness.is_ok_and(|it| it["subscriptions"]["billing"].to_string().contains(what))
}
