//! Several instances of one service: one freezes and another takes over, or instances join and
//! leave.

use std::time::Duration;

use futures::future::{join_all, try_join};
use tokio::time::sleep;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::instance::Instance;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::topics;
use crate::chaos::written;

pub(crate) const CONSUMED: &str = "messaging_client_consumed_messages_total";
/// Number of shards: `outbox::SHARDS`.
const ALL_SHARDS: f64 = 16.0;
/// Number of orders that are written at a time, five times in total.
const FLOW: usize = 4_000;

pub(crate) async fn relay_frozen(scene: &mut Scene) -> Evidence {
    scene.orders(50).await?;
    let other = scene.system.order(&[]).await?;
    let shares = async || other.metric("outbox_shards", "").await > 0.0;
    if !soon(shares).await {
        return Err("the other relay got no shards".into());
    }
    scene.load.redirect_to(other.http);
    scene.order.process.pause();
    let has_all = async || (other.metric("outbox_shards", "").await - ALL_SHARDS).abs() < 0.5;
    let took_over = soon(has_all).await;
    scene.orders(100).await?;
    scene.order.process.resume();
    scene.healed();
    scene.others.push(other);
    if !took_over {
        return Err("the other relay did not take the frozen one's shards".into());
    }
    // Both instances work again.
    scene.orders(100).await?;
    Ok("the other relay took all 16 shards".into())
}

pub(crate) async fn billing_frozen(scene: &mut Scene) -> Evidence {
    let other = scene.system.billing(&[]).await?;
    members(scene, 2).await?;
    // Billing is frozen in the middle of transactions.
    scene.slow_billing(500).await?;
    scene.orders(50).await?;
    scene.billing.process.pause();
    // The session lasts 10 s, an idle transaction 15 s.
    sleep(Duration::from_secs(20)).await;
    members(scene, 1).await?;
    let shared = other.metric(CONSUMED, "").await;
    scene.orders(50).await?;
    let alone = other.metric(CONSUMED, "").await - shared;
    scene.billing.process.resume();
    scene.quick_billing().await?;
    scene.healed();
    scene.others.push(other);
    if alone < 1.0 {
        return Err("the other instance processed nothing".into());
    }
    scene.orders(50).await?;
    Ok(format!("the other instance processed {alone} messages alone"))
}

pub(crate) async fn billing_joins_and_leaves(scene: &mut Scene) -> Evidence {
    scene.orders(100).await?;
    flow(scene).await?;
    let mut second = scene.system.billing(&[]).await?;
    flow_until_members(scene, 2).await?;
    let mut third = scene.system.billing(&[]).await?;
    flow_until_members(scene, 3).await?;
    flow(scene).await?;
    let shares = topics::shares(&scene.system.kafka())?;
    let read = read_by([&scene.billing, &second, &third]).await;
    scene.endings.push(second.terminate().await);
    flow_until_members(scene, 2).await?;
    // The last one leaves without leaving the group.
    third.process.kill_9().await;
    members(scene, 1).await?;
    scene.healed();
    scene.orders(100).await?;
    if shares.contains(&0) {
        return Err(format!("an instance got nothing to do, the partitions were {shares:?}").into());
    }
    Ok(format!("{} events; three instances read {read} (partitions: {shares:?})", 5 * FLOW))
}

/// Writes a part of the events.
async fn flow(scene: &mut Scene) -> Result<(), Error> {
    let written = written::write_many(&scene.system, FLOW).await?;
    scene.written.extend(written);
    Ok(())
}

/// Writes a part of the events during a rebalance.
async fn flow_until_members(scene: &mut Scene, wanted: usize) -> Result<(), Error> {
    let (written, ()) =
        try_join(written::write_many(&scene.system, FLOW), members(scene, wanted)).await?;
    scene.written.extend(written);
    Ok(())
}

async fn read_by<const N: usize>(instances: [&Instance; N]) -> String {
    let read = join_all(instances.map(|instance| instance.metric(CONSUMED, ""))).await;
    read.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

/// Waits until the group has a number of members and is not rebalancing.
pub(crate) async fn members(scene: &Scene, wanted: usize) -> Result<(), Error> {
    let settings = scene.system.kafka();
    let shared = async || topics::members(&settings).is_ok_and(|members| members == Some(wanted));
    if soon(shared).await {
        Ok(())
    } else {
        Err(format!("the group never had {wanted} members").into())
    }
}
