//! Kafka answers slowly.

use std::time::Duration;

use tokio::time::sleep;

use super::Evidence;
use crate::chaos::scene::Scene;

const BEFORE: usize = 100;
const AFTERWARDS: usize = 50;
const LASTS: Duration = Duration::from_secs(20);
/// Minimum number of orders that are accepted meanwhile: a quarter of the load in that time on two
/// cores.
const MEANWHILE: usize = 500;

pub(crate) async fn answers_late(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let before = scene.load.taken();
    scene.system.proxy()?.set_slow(true);
    sleep(LASTS).await;
    let meanwhile = scene.load.taken() - before;
    let proxy = scene.system.proxy()?;
    proxy.set_slow(false);
    let delayed = proxy.delayed();
    scene.healed();
    if delayed == 0 {
        return Err("no answer of Kafka was delayed".into());
    }
    if meanwhile < MEANWHILE {
        return Err(format!("only {meanwhile} orders were accepted while Kafka was slow").into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("{delayed} answers were late, and {meanwhile} orders were accepted"))
}
