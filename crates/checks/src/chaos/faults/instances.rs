//! Several instances of one service: one freezes and another takes over, or they come and go.

use std::time::Duration;

use tokio::time::sleep;

use super::Struck;
use crate::chaos::Error;
use crate::chaos::instance::Instance;
use crate::chaos::scene::{Scene, soon};

const CONSUMED: &str = "messaging_client_consumed_messages_total";
/// How many there are: `outbox::SHARDS`.
const ALL_SHARDS: f64 = 16.0;

pub(crate) async fn relay_frozen(scene: &mut Scene) -> Struck {
    scene.orders(50).await?;
    let other = scene.system.order(&[]).await?;
    let shares = async || other.metric("outbox_shards", "").await > 0.0;
    if !soon(shares).await {
        return Err("the other relay got no shards".into());
    }
    scene.load.turn_to(other.http);
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
    // With both at work again.
    scene.orders(100).await?;
    Ok("the other relay took all 16 shards".into())
}

pub(crate) async fn billing_frozen(scene: &mut Scene) -> Struck {
    let other = scene.system.billing(&[]).await?;
    consumes(&other).await?;
    // In the middle of transactions.
    scene.slow_billing(500).await?;
    scene.orders(50).await?;
    scene.billing.process.pause();
    // The session lasts 10 s, an idle transaction 15 s.
    sleep(Duration::from_secs(20)).await;
    let shared = other.metric(CONSUMED, "").await;
    scene.orders(50).await?;
    let alone = other.metric(CONSUMED, "").await - shared;
    scene.billing.process.resume();
    scene.quick_billing().await?;
    scene.healed();
    scene.others.push(other);
    if alone < 1.0 {
        return Err("the other instance did not go on".into());
    }
    scene.orders(50).await?;
    Ok(format!("the other instance went on alone with {alone} messages"))
}

pub(crate) async fn billing_joins_and_leaves(scene: &mut Scene) -> Struck {
    let mut consumed = Vec::new();
    scene.orders(100).await?;
    let mut second = scene.system.billing(&[]).await?;
    consumed.push(consumes(&second).await?);
    let mut third = scene.system.billing(&[]).await?;
    consumed.push(consumes(&third).await?);
    scene.orders(200).await?;
    scene.endings.push(second.terminate().await);
    scene.orders(200).await?;
    // The last one does not even say goodbye.
    third.process.kill_9().await;
    scene.healed();
    scene.orders(100).await?;
    Ok(format!("the others had {consumed:?} messages when they were seen to have any"))
}

/// Waits until it has messages. Gives how many.
async fn consumes(instance: &Instance) -> Result<f64, Error> {
    let some = async || instance.metric(CONSUMED, "").await > 0.0;
    if soon(some).await {
        Ok(instance.metric(CONSUMED, "").await)
    } else {
        Err("an instance that joined got no messages".into())
    }
}
