//! Expected deliveries: events that a subscription handles but has no record of.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use kafka::Settings;

use super::collect::Asked;
use super::entry::{Content, Delivery, Event, Expected, Lag};
use super::sorting::Sorting;
use crate::error::with_cause;
use crate::lag::position::{PlainPartition, positions};

/// The state of a healthy subscription.
const RUNNING: &str = "running";

/// Adds a delivery for each event and each subscription that handles its type, unless one is
/// recorded, or the event was sent to its receivers directly.
pub(crate) fn add(sorting: &mut Sorting, services: &[Asked]) {
    let direct = sent_directly(sorting);
    let events = sorting.entries.iter().filter_map(|entry| match &entry.content {
        Content::Event(event) => Some((event.id.clone(), event.kind.clone()?, lag(event))),
        _ => None,
    });
    let published = events.filter(|(id, ..)| !direct.contains(id));
    for (id, event_type, lag) in published.collect::<Vec<_>>() {
        for service in services {
            let handles =
                service.subscriptions.iter().filter(|it| it.event_types.contains(&event_type));
            for subscription in handles {
                let is_known = sorting.delivery(&id, &subscription.group).is_some();
                let delivery = sorting.delivery_of(&service.service, &id, &subscription.group);
                delivery.event_id = Some(id.clone());
                delivery.event_type.get_or_insert_with(|| event_type.clone());
                if !is_known {
                    let state = (subscription.state != RUNNING).then(|| subscription.state.clone());
                    delivery.expected = Some(Expected { lag: lag.clone(), state });
                }
            }
        }
    }
}

/// Returns the events that nobody published and that were delivered without a position in Kafka:
/// other subscriptions do not get them.
fn sent_directly(sorting: &Sorting) -> BTreeSet<String> {
    let mut direct = BTreeMap::new();
    for entry in &sorting.entries {
        match &entry.content {
            Content::Event(event) if was_in_an_outbox(event) => {
                direct.insert(event.id.clone(), false);
            }
            Content::Delivery(Delivery { event_id: Some(id), steps, .. }) if !steps.is_empty() => {
                let is_direct = steps.iter().all(|it| it.step.partition.is_none());
                *direct.entry(id.clone()).or_insert(true) &= is_direct;
            }
            _ => {}
        }
    }
    direct.into_iter().filter_map(|(id, is_direct)| is_direct.then_some(id)).collect()
}

fn was_in_an_outbox(event: &Event) -> bool {
    !event.waits.is_empty() || !event.published.is_empty() || event.outbox.is_some()
}

fn lag(event: &Event) -> Lag {
    match (&event.published[..], &event.outbox) {
        ([], Some(_)) => Lag::Unpublished,
        ([], None) => Lag::Unknown("its publication is not recorded".into()),
        _ => Lag::Unknown("its place in Kafka is not recorded".into()),
    }
}

/// Returns the position of the last record of an event.
fn place(event: &Event) -> Option<(PlainPartition, i64)> {
    let published = event.published.iter().rev();
    let mut places = published.filter_map(|it| {
        let step = &it.step;
        Some(((step.topic.clone()?, step.partition?), step.offset?))
    });
    places.next()
}

/// Queries Kafka for the positions of groups with expected deliveries, concurrently, each within 3
/// s.
pub(crate) async fn locate(sorting: &mut Sorting, kafka: &Settings) {
    let wanted = wanted(sorting, kafka);
    let mut places: BTreeMap<String, BTreeSet<PlainPartition>> = BTreeMap::new();
    for (_, group, place, _) in &wanted {
        places.entry(group.clone()).or_default().insert(place.clone());
    }
    let asked = places.into_iter().map(|(group, places)| {
        let kafka = kafka.clone();
        async move {
            let asking = {
                let group = group.clone();
                tokio::task::spawn_blocking(move || positions(&kafka, &group, &places))
            };
            (group, asking.await)
        }
    });
    let positions: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    for (entry, group, place, offset) in wanted {
        let lag = match positions.get(&group) {
            Some(Ok(Ok(positions))) => match positions.get(&place) {
                Some(next) if *next > offset => Lag::Passed,
                Some(next) => Lag::Behind(offset - next),
                None => Lag::NothingCommitted,
            },
            Some(Ok(Err(error))) => {
                Lag::Unknown(format!("Kafka unavailable, lag unknown ({})", with_cause(error)))
            }
            _ => Lag::Unknown("lag unknown".into()),
        };
        if let Content::Delivery(it) = &mut sorting.entries[entry].content
            && let Some(expected) = &mut it.expected
        {
            expected.lag = lag;
        }
    }
}

/// Returns the expected deliveries, by event id and group, whose group has committed past the
/// event.
pub(crate) fn passed(sorting: &Sorting) -> BTreeSet<(Option<String>, String)> {
    let deliveries = sorting.entries.iter().filter_map(|entry| match &entry.content {
        Content::Delivery(it) => Some(it),
        _ => None,
    });
    let has_passed = |expected: &Expected| matches!(expected.lag, Lag::Passed);
    deliveries
        .filter(|it| it.expected.as_ref().is_some_and(has_passed))
        .map(|it| (it.event_id.clone(), it.group.clone()))
        .collect()
}

/// Returns entry, group, place and offset of the expected deliveries whose lag Kafka can answer.
fn wanted(sorting: &Sorting, kafka: &Settings) -> Vec<(usize, String, PlainPartition, i64)> {
    let mut wanted = Vec::new();
    for (at, entry) in sorting.entries.iter().enumerate() {
        let Content::Delivery(delivery) = &entry.content else { continue };
        let event = delivery.event_id.as_ref().and_then(|id| sorting.event(id));
        if let (Some(_), Some(event)) = (&delivery.expected, event)
            && let Content::Event(event) = &sorting.entries[event].content
            && let Some(((topic, partition), offset)) = place(event)
        {
            let place = (kafka.unprefixed(&topic).to_owned(), partition);
            wanted.push((at, delivery.group.clone(), place, offset));
        }
    }
    wanted
}
