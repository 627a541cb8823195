//! Processes that die: at a named place, or under load by SIGKILL.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Struck;
use crate::chaos::Error;
use crate::chaos::faults::messages::{send_poison, send_sound};
use crate::chaos::instance::Instance;
use crate::chaos::scene::Scene;
use crate::chaos::topics::{self, DEAD_LETTERS, Place};

/// How long it may take until the place is reached at which a process dies.
const DEATH: Duration = Duration::from_secs(45);
/// Orders after the fault, to see that all goes on.
const AFTERWARDS: usize = 50;
/// The event that no handler survives.
pub(crate) const DEADLY_EVENT: &str = "the one that kills";
/// How long it may take until a message that kills is a dead letter: each death costs a session of the group's.
const SUPERVISED: Duration = Duration::from_mins(2);

pub(crate) async fn billing_before_commit(scene: &mut Scene) -> Struck {
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

pub(crate) async fn billing_under_load(scene: &mut Scene) -> Struck {
    scene.orders(150).await?;
    let status = scene.billing.process.kill_9().await;
    sleep(Duration::from_secs(1)).await;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing died: {status}"))
}

pub(crate) async fn handler_aborts(scene: &mut Scene) -> Struck {
    scene.orders(50).await?;
    let deadly = send_sound(scene, DEADLY_EVENT).await?;
    scene.poison.insert(deadly.clone());
    let deaths = supervise_until_dead_letter(scene, &deadly).await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    // Once unawares, and then in each attempt.
    if deaths < 2 {
        return Err(format!("billing died {deaths} times before it buried the message").into());
    }
    Ok(format!("billing died {deaths} times of one message, and then it was a dead letter"))
}

/// Starts billing again as often as it dies. Gives how often that was.
async fn supervise_until_dead_letter(scene: &mut Scene, deadly: &Place) -> Result<u32, Error> {
    let (began, settings) = (Instant::now(), scene.system.kafka());
    let mut deaths = 0;
    while began.elapsed() < SUPERVISED {
        if scene.billing.died_within(Duration::from_secs(1)).await.is_some() {
            deaths += 1;
            scene.billing.start_again().await?;
        } else {
            let dead = topics::read_all(&settings, DEAD_LETTERS)?;
            if dead.iter().filter_map(topics::origin_of).any(|origin| origin == *deadly) {
                return Ok(deaths);
            }
        }
    }
    Err(format!("billing died {deaths} times, and the message is no dead letter").into())
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
