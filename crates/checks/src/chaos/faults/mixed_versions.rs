//! A deployment is rolled back and forward: billing of two releases in one group.

use std::time::{Duration, Instant};

use super::Evidence;
use super::instances::{CONSUMED, members};
use crate::chaos::Error;
use crate::chaos::instance::Instance;
use crate::chaos::releases::Release;
use crate::chaos::scene::Scene;
use crate::chaos::written;

/// Number of orders that are placed in each phase, and that are written to the database.
const PLACED: usize = 100;
const WRITTEN: usize = 300;
/// Maximum time until an instance reads an event.
const READS: Duration = Duration::from_secs(30);

pub(crate) async fn rolled_back_and_forth(scene: &mut Scene) -> Evidence {
    // This tree's billing runs first, so that its migrations are applied before the earlier release
    // starts.
    flow(scene).await?;
    scene.system.releases()?.start_billing_of(Release::Earlier)?;
    let mut earlier = scene.system.billing(&[]).await?;
    scene.system.releases()?.expect(Release::Earlier, earlier.process.pid())?;
    members(scene, 2).await?;
    let beside = flow_until_read(scene, &earlier, 0.0).await?;
    scene.endings.push(scene.billing.terminate().await);
    members(scene, 1).await?;
    let alone = flow_until_read(scene, &earlier, beside).await? - beside;
    scene.system.releases()?.start_billing_of(Release::Current)?;
    scene.billing.start_again().await?;
    scene.system.releases()?.expect(Release::Current, scene.billing.process.pid())?;
    members(scene, 2).await?;
    flow(scene).await?;
    scene.endings.push(earlier.terminate().await);
    members(scene, 1).await?;
    scene.healed();
    flow(scene).await?;
    if beside < 1.0 || alone < 1.0 {
        return Err(format!("the earlier release read {beside} and {alone} events").into());
    }
    Ok(format!("the earlier release read {beside} events beside this one, and {alone} alone"))
}

/// Places and writes orders until an instance has read further events: a member that has just
/// joined may still wait for its partitions. Returns the number that it has read, which is `before`
/// if it read none.
async fn flow_until_read(
    scene: &mut Scene,
    instance: &Instance,
    before: f64,
) -> Result<f64, Error> {
    let deadline = Instant::now() + READS;
    loop {
        flow(scene).await?;
        let read = instance.metric(CONSUMED, "").await;
        if read > before || Instant::now() > deadline {
            return Ok(read);
        }
    }
}

/// Places orders, and writes some to the database.
async fn flow(scene: &mut Scene) -> Result<(), Error> {
    let written = written::write_many(&scene.system, WRITTEN).await?;
    scene.written.extend(written);
    scene.orders(PLACED).await
}
