//! A deployment that is rolled back and forth: billing of two releases in one group.

use super::Struck;
use super::instances::{CONSUMED, members};
use crate::chaos::Error;
use crate::chaos::releases::Release;
use crate::chaos::scene::Scene;
use crate::chaos::written;

/// How many orders are placed in each phase, and how many are written past the API.
const PLACED: usize = 100;
const WRITTEN: usize = 300;

pub(crate) async fn rolled_back_and_forth(scene: &mut Scene) -> Struck {
    // Begun by this tree's billing, so that its migrations are there before the earlier release starts.
    flow(scene).await?;
    scene.system.releases()?.start_billing_of(Release::Earlier)?;
    let mut earlier = scene.system.billing(&[]).await?;
    scene.system.releases()?.expect(Release::Earlier, earlier.process.pid())?;
    members(scene, 2).await?;
    flow(scene).await?;
    let beside = earlier.metric(CONSUMED, "").await;
    scene.endings.push(scene.billing.terminate().await);
    members(scene, 1).await?;
    flow(scene).await?;
    let alone = earlier.metric(CONSUMED, "").await - beside;
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

/// Orders in both ways.
async fn flow(scene: &mut Scene) -> Result<(), Error> {
    let written = written::write_many(&scene.system, WRITTEN).await?;
    scene.written.extend(written);
    scene.orders(PLACED).await
}
