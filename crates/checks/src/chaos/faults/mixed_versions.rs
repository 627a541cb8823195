//! A deployment that is rolled back and forth: billing of two releases in one group.

use std::time::{Duration, Instant};

use super::Struck;
use super::instances::{CONSUMED, members};
use crate::chaos::Error;
use crate::chaos::instance::Instance;
use crate::chaos::releases::Release;
use crate::chaos::scene::Scene;
use crate::chaos::written;

/// How many orders are placed in each phase, and how many are written past the API.
const PLACED: usize = 100;
const WRITTEN: usize = 300;
/// How long it may take until an instance reads something.
const READS: Duration = Duration::from_secs(30);

pub(crate) async fn rolled_back_and_forth(scene: &mut Scene) -> Struck {
    // Begun by this tree's billing, so that its migrations are there before the earlier release starts.
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

/// Orders in both ways, until an instance has read more events than before: a member of the group that has just joined may
/// wait for its partitions still. Returns how many it has read; no more than before if it never did.
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

/// Orders in both ways.
async fn flow(scene: &mut Scene) -> Result<(), Error> {
    let written = written::write_many(&scene.system, WRITTEN).await?;
    scene.written.extend(written);
    scene.orders(PLACED).await
}
