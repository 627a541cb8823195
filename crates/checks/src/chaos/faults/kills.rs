//! Processes that die: at a named place, or under load by SIGKILL.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::sleep;

use super::Struck;
use crate::chaos::Error;
use crate::chaos::faults::messages::send_poison;
use crate::chaos::instance::Instance;
use crate::chaos::scene::Scene;

/// How long it may take until the place is reached at which a process dies.
const DEATH: Duration = Duration::from_secs(45);
/// Orders after the fault, to see that all goes on.
const AFTERWARDS: usize = 50;

pub(crate) async fn billing_before_commit(scene: &mut Scene) -> Struck {
    // Long enough in its transactions for offsets to be committed meanwhile, were they stored too early.
    scene.slow_billing(300).await?;
    billing_dies(scene).await
}

pub(crate) async fn billing_after_commit(scene: &mut Scene) -> Struck {
    billing_dies(scene).await
}

pub(crate) async fn billing_after_dead_letter(scene: &mut Scene) -> Struck {
    scene.orders(20).await?;
    send_poison(scene).await?;
    billing_dies(scene).await
}

async fn billing_dies(scene: &mut Scene) -> Struck {
    let status = death_of(&mut scene.billing).await?;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing died: {status}"))
}

pub(crate) async fn relay_before_delete(scene: &mut Scene) -> Struck {
    let status = death_of(&mut scene.order).await?;
    scene.order.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("order died: {status}"))
}

pub(crate) async fn order_under_load(scene: &mut Scene) -> Struck {
    scene.orders(150).await?;
    let status = scene.order.process.kill_9().await;
    sleep(Duration::from_secs(1)).await;
    scene.order.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("order died: {status}"))
}

async fn death_of(instance: &mut Instance) -> Result<ExitStatus, Error> {
    let name = instance.process.name().to_owned();
    let status = instance.died_within(DEATH).await;
    let status = status.ok_or_else(|| format!("{name} did not die"))?;
    if std::os::unix::process::ExitStatusExt::signal(&status).is_none() {
        return Err(format!("{name} was not killed, it ended: {status}").into());
    }
    Ok(status)
}
