//! Brokers of a cluster of three are killed or restarted: one, two, the controller, or each in
//! turn.

use std::time::{Duration, Instant};

use kafka::Settings;
use sandbox::Broker;
use tokio::time::sleep;

use super::Evidence;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::waits::{Waits, p99_and_longest};
use crate::chaos::{Error, cluster, settle, topics};

/// Topic whose partitions are observed.
const TOPIC: &str = "order.completed";
const BEFORE: usize = 100;
const AFTERWARDS: usize = 50;
/// Minimum number of events of [`TOPIC`] that the two remaining brokers have to accept.
const MEANWHILE: i64 = 100;
/// How long one broker is down. Longer than its session lasts.
const ONE_DEAD: Duration = Duration::from_secs(15);
/// Shorter than a broker's session, or the controller would take the others for dead.
const AHEAD: Duration = Duration::from_secs(1);
const TWO_DEAD: Duration = Duration::from_secs(20);
/// How long a restarted broker is down.
const DOWN: Duration = Duration::from_secs(2);

pub(crate) async fn leader_killed(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let settings = scene.system.kafka();
    let waits = Waits::watch(&settings)?;
    let busiest = topics::ends(&settings, TOPIC)?.into_iter().max_by_key(|(_, end)| *end);
    let (partition, _) = busiest.ok_or("the topic has no partition")?;
    let dead = cluster::leader(&settings, TOPIC, partition).ok_or("the partition has no leader")?;
    let before = count(&settings)?;
    kill_ahead_of_others(scene, dead).await?;
    let killed = Instant::now();
    let led = async || cluster::leader(&settings, TOPIC, partition).is_some_and(|it| it != dead);
    let moved = soon(led).await.then(|| killed.elapsed());
    let published = published(&settings, before + MEANWHILE).await;
    sleep(ONE_DEAD.saturating_sub(killed.elapsed())).await;
    start_again(scene).await?;
    let moved = moved.ok_or("no other broker led the partition")?;
    published?;
    scene.orders(AFTERWARDS).await?;
    let waited = waited(waits).await?;
    Ok(format!("broker {dead} led partition {partition}, another one after {moved:.1?}; {waited}"))
}

/// Kills a broker that is a second ahead of the others, which are paused meanwhile: records that it
/// alone has acknowledged are lost.
async fn kill_ahead_of_others(scene: &mut Scene, dead: u16) -> Result<(), Error> {
    for id in (1..=3).filter(|id| *id != dead) {
        broker(scene, id)?.process().pause();
    }
    sleep(AHEAD).await;
    broker(scene, dead)?.process().kill_9().await;
    for id in (1..=3).filter(|id| *id != dead) {
        broker(scene, id)?.process().resume();
    }
    Ok(())
}

pub(crate) async fn two_killed(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    for id in [1, 2] {
        broker(scene, id)?.process().kill_9().await;
    }
    let before = scene.load.taken();
    sleep(TWO_DEAD).await;
    let meanwhile = scene.load.taken() - before;
    let waiting = settle::waiting(scene, "order").await?;
    start_again(scene).await?;
    // Each order has at least two events.
    if meanwhile == 0 || usize::try_from(waiting)? < meanwhile {
        return Err(format!("{meanwhile} orders were accepted, and {waiting} events waited").into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("{meanwhile} orders were accepted, and {waiting} events waited for a second broker"))
}

pub(crate) async fn rolling_restart(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let settings = scene.system.kafka();
    let waits = Waits::watch(&settings)?;
    let (began, before) = (Instant::now(), scene.load.taken());
    for id in 1..=3 {
        broker(scene, id)?.halt().await;
        sleep(DOWN).await;
        // Before the next restart, as an operator does: two brokers down at a time would be one too
        // many.
        start_again(scene).await?;
        scene.orders(AFTERWARDS).await?;
    }
    let (took, orders) = (began.elapsed(), scene.load.taken() - before);
    let waited = waited(waits).await?;
    Ok(format!("three restarts in {took:.0?}, {orders} orders were accepted; {waited}"))
}

pub(crate) async fn controller_killed(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let settings = scene.system.kafka();
    let dead = scene.system.servers.kafka.controller().await?;
    let waits = Waits::watch(&settings)?;
    let before = count(&settings)?;
    broker(scene, dead)?.process().kill_9().await;
    let killed = Instant::now();
    let controlled = soon(async || cluster::create_topic(&settings).await.is_ok()).await;
    let decided = killed.elapsed();
    let successor = scene.system.servers.kafka.controller().await?;
    let published = published(&settings, before + MEANWHILE).await;
    sleep(ONE_DEAD.saturating_sub(killed.elapsed())).await;
    start_again(scene).await?;
    published?;
    if !controlled || successor == dead {
        return Err("there was no other controller".into());
    }
    scene.orders(AFTERWARDS).await?;
    let waited = waited(waits).await?;
    Ok(format!("node {dead} was the controller, node {successor} after {decided:.1?}; {waited}"))
}

pub(crate) fn broker(scene: &mut Scene, id: u16) -> Result<&mut Broker, Error> {
    let broker = scene.system.servers.kafka.broker(id);
    broker.ok_or_else(|| format!("the cluster has no broker {id}").into())
}

/// Starts the stopped brokers, and waits until they have caught up.
pub(crate) async fn start_again(scene: &mut Scene) -> Result<(), Error> {
    scene.system.servers.kafka.start_again().await?;
    scene.healed();
    let settings = scene.system.kafka();
    if soon(async || cluster::is_in_sync(&settings)).await {
        Ok(())
    } else {
        Err("the brokers were never in sync again".into())
    }
}

/// Returns the number of events of [`TOPIC`].
fn count(settings: &Settings) -> Result<i64, Error> {
    Ok(topics::ends(settings, TOPIC)?.into_iter().map(|(_, end)| end).sum())
}

/// Waits until [`TOPIC`] has a number of events.
async fn published(settings: &Settings, wanted: i64) -> Result<(), Error> {
    if soon(async || count(settings).is_ok_and(|events| events >= wanted)).await {
        Ok(())
    } else {
        Err("next to no events were published while a broker was dead".into())
    }
}

async fn waited(waits: Waits) -> Result<String, Error> {
    let waits = waits.stop().await?;
    let (p99, longest) = p99_and_longest(waits.iter());
    let events = waits.len();
    Ok(format!("of {events} events the p99 waited {p99:.1?}, and the last {longest:.1?}"))
}
