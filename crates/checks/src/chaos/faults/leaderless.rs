//! One partition has no leader while all others have one.

use std::fs;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::time::sleep;

use super::Evidence;
use super::cluster::{broker, start_again};
use crate::chaos::cluster::Partition;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::waits::{Wait, Waits, p99_and_longest};
use crate::chaos::{Error, cluster, settle};

const TOPIC: &str = "order.updated";
const PARTITION: i32 = 0;
/// The only broker with a replica of the partition.
const BROKER: u16 = 3;
const BEFORE: usize = 100;
const AFTERWARDS: usize = 50;
const LASTS: Duration = Duration::from_secs(25);
/// Maximum p99 of the waits for partitions that have a leader.
const P99: Duration = Duration::from_secs(1);

pub(crate) async fn partition_leaderless(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    leave_to_one(scene).await?;
    let settings = scene.system.kafka();
    let waits = Waits::watch(&settings)?;
    // A controlled shutdown, so that the other partitions get another leader before it ends.
    broker(scene, BROKER)?.halt().await;
    let alone =
        async || cluster::partitions(&settings, None).is_ok_and(|all| only_it_is_dead(&all));
    let struck = soon(alone).await;
    let (from, began) = (OffsetDateTime::now_utc(), Instant::now());
    sleep(LASTS).await;
    let until = from + began.elapsed();
    start_again(scene).await?;
    if !struck {
        return Err("the other partitions had no leaders, or this one had".into());
    }
    scene.orders(AFTERWARDS).await?;
    let published = async || settle::waiting(scene, "order").await.is_ok_and(|left| left < 50);
    if !soon(published).await {
        return Err("the waiting events were not published".into());
    }
    let mut waits = waits.stop().await?;
    waits.retain(|wait| (from..until).contains(&wait.created));
    verdict(&waits)
}

/// Fails if no event waited for as long as the partition had no leader, or if other events waited
/// for long.
fn verdict(waits: &[Wait]) -> Evidence {
    let is_dead = |wait: &&Wait| wait.topic == TOPIC && wait.partition == PARTITION;
    let others = || waits.iter().filter(|wait| !is_dead(wait));
    let (dead, alive) = (waits.iter().filter(is_dead).count(), others().count());
    let (_, longest) = p99_and_longest(waits.iter().filter(is_dead));
    let (p99, worst) = p99_and_longest(others());
    let (p99_elsewhere, _) = p99_and_longest(others().filter(|wait| wait.topic != TOPIC));
    let summary = format!(
        "{dead} events waited up to {longest:.1?} for a leader, the p99 of {alive} others {p99:.1?} (of other \
         topics {p99_elsewhere:.1?}) and the last {worst:.1?}"
    );
    if dead == 0 || alive == 0 || longest < P99 || p99.max(p99_elsewhere) >= P99 {
        Err(summary.into())
    } else {
        Ok(summary)
    }
}

fn only_it_is_dead(partitions: &[Partition]) -> bool {
    let is_it = |it: &Partition| it.topic == TOPIC && it.id == PARTITION;
    partitions.iter().all(|it| it.leader.is_none() == is_it(it))
}

/// Removes all replicas of the partition but one.
async fn leave_to_one(scene: &Scene) -> Result<(), Error> {
    let kafka = &scene.system.servers.kafka;
    let plan = kafka.folder().join("reassignment.json");
    let path = plan.display().to_string();
    fs::write(
        &plan,
        format!(
            r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":{PARTITION},"replicas":[{BROKER}]}}]}}"#
        ),
    )?;
    let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
    kafka.run_tool(class, &["--reassignment-json-file", &path, "--execute"]).await?;
    let settings = scene.system.kafka();
    let is_alone =
        |it: &Partition| it.id == PARTITION && it.replicas == 1 && it.leader == Some(BROKER);
    let moved = async || {
        cluster::partitions(&settings, Some(TOPIC)).is_ok_and(|all| all.iter().any(is_alone))
    };
    if soon(moved).await { Ok(()) } else { Err("the partition was not left to one broker".into()) }
}
