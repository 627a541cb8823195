//! A topic is deleted, and the services that own it create it again, with offsets from zero.

use std::collections::HashSet;
use std::time::Instant;

use kafka::rdkafka::admin::{AdminClient, AdminOptions};
use kafka::rdkafka::client::DefaultClientContext;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::books::event_key;
use crate::chaos::deleted_topic::DeletedTopic;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::{settle, topics};

const TOPIC: &str = "order.completed";
const READERS: [&str; 5] =
    ["billing", "notification", "analytics", "analytics.basket", "analytics.history"];
const BEFORE: usize = 150;
const AFTERWARDS: usize = 150;

pub(crate) async fn recreated(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    all_consumed(scene).await?;
    let settings = scene.system.kafka();
    let deleted = DeletedTopic::read(&settings, TOPIC)?;
    let old: HashSet<_> = deleted.records().iter().filter_map(event_key).collect();
    scene.deleted = Some(deleted);
    let began = Instant::now();
    delete(scene).await?;
    // Orders are accepted while the topic is missing.
    scene.load.resume();
    let created = soon(async || topics::exists(&settings, TOPIC).unwrap_or(false)).await;
    let missing = began.elapsed();
    scene.healed();
    if !created {
        return Err("the topic was not created again".into());
    }
    scene.orders(AFTERWARDS).await?;
    let stored = topics::read_all(&settings, TOPIC)?;
    if stored.iter().filter_map(event_key).any(|key| old.contains(&key)) {
        return Err("the topic has records that were deleted with it".into());
    }
    let lost = old.len();
    Ok(format!(
        "{lost} events were deleted with the topic, which was created again after {missing:.1?}"
    ))
}

/// Stops the load, and waits until no outbox has events and every group has read the topic: events
/// that only the topic holds would be lost with it.
async fn all_consumed(scene: &mut Scene) -> Result<(), Error> {
    scene.load.stop().await;
    let settings = scene.system.kafka();
    let is_quiet = async || {
        settle::waiting(scene, "order").await.is_ok_and(|waiting| waiting == 0)
            && READERS
                .iter()
                .all(|group| topics::lag(&settings, group, TOPIC).is_ok_and(|lag| lag == 0))
    };
    if soon(is_quiet).await { Ok(()) } else { Err("the topic was not consumed to its end".into()) }
}

async fn delete(scene: &Scene) -> Result<(), Error> {
    let settings = scene.system.kafka();
    let admin: AdminClient<DefaultClientContext> = settings.client().create()?;
    for deleted in admin.delete_topics(&[TOPIC], &AdminOptions::new()).await? {
        deleted.map_err(|(_, code)| code)?;
    }
    Ok(())
}
