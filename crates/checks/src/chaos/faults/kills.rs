//! Processes die: at a failure point, or by SIGKILL under load.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::faults::messages::{send_poison, send_sound};
use crate::chaos::instance::Instance;
use crate::chaos::scene::Scene;
use crate::chaos::topics::{self, DEAD_LETTERS, RecordPosition};

/// Maximum time until the process reaches its failure point.
const DEATH: Duration = Duration::from_secs(45);
/// Orders after the fault, to check that everything works again.
const AFTERWARDS: usize = 50;
/// Id of the event that kills the process of its handler.
pub(crate) const DEADLY_EVENT: &str = "the one that kills";
/// Maximum time until the deadly message is a dead letter: after each death the group waits for the
/// session to end.
const SUPERVISED: Duration = Duration::from_mins(2);

pub(crate) async fn billing_before_commit(scene: &mut Scene) -> Evidence {
    billing_dies(scene).await
}

pub(crate) async fn billing_after_commit(scene: &mut Scene) -> Evidence {
    billing_dies(scene).await
}

pub(crate) async fn billing_after_dead_letter(scene: &mut Scene) -> Evidence {
    scene.orders(20).await?;
    send_poison(scene).await?;
    billing_dies(scene).await
}

async fn billing_dies(scene: &mut Scene) -> Evidence {
    let status = death_of(&mut scene.billing).await?;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing died: {status}"))
}

pub(crate) async fn relay_before_delete(scene: &mut Scene) -> Evidence {
    let status = death_of(&mut scene.order).await?;
    scene.order.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("order died: {status}"))
}

pub(crate) async fn billing_under_load(scene: &mut Scene) -> Evidence {
    scene.orders(150).await?;
    let status = scene.billing.process.kill_9().await;
    sleep(Duration::from_secs(1)).await;
    scene.billing.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing died: {status}"))
}

pub(crate) async fn handler_aborts(scene: &mut Scene) -> Evidence {
    scene.orders(50).await?;
    let deadly = send_sound(scene, DEADLY_EVENT).await?;
    scene.poison.insert(deadly.clone());
    let deaths = supervise_until_dead_letter(scene, &deadly).await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    // Once before it is marked, and then in each attempt.
    if deaths < 2 {
        return Err(
            format!("billing died {deaths} times before it dead-lettered the message").into()
        );
    }
    Ok(format!("billing died {deaths} times of one message before that was a dead letter"))
}

/// Restarts billing whenever it dies. Returns the number of deaths.
async fn supervise_until_dead_letter(
    scene: &mut Scene,
    deadly: &RecordPosition,
) -> Result<u32, Error> {
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
    Err(format!("billing died {deaths} times, and the message is not a dead letter").into())
}

pub(crate) async fn order_under_load(scene: &mut Scene) -> Evidence {
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
