use std::collections::BTreeMap;

use chassis::ServiceDescription;
use kafka::TopicSpec;
use serde_json::{Value, json};

use super::{object, reference};

/// Name of the message of dead letters.
pub(super) const DEAD_LETTER: &str = "dead-letter";

/// Returns the channels: the topics of events, and the dead-letter topics of the groups.
pub(super) fn all(descriptions: &[ServiceDescription]) -> Value {
    let topics = descriptions.iter().flat_map(|it| {
        it.publishes.iter().map(move |topic| {
            let description =
                format!("Owned by the {} service, which publishes to it.", it.service);
            (topic.name.to_string(), channel(topic, &description, &types_on(&topic.name)))
        })
    });
    let dead = descriptions.iter().flat_map(|it| &it.subscriptions).map(|subscription| {
        let topic = kafka::dead_letter_topic(&subscription.group);
        let description = format!(
            "Copies of the messages that the group `{}` could not process, byte for byte. Replays don't read it.",
            subscription.group
        );
        (topic.name.to_string(), channel(&topic, &description, &[DEAD_LETTER]))
    });
    object(topics.chain(dead).collect::<BTreeMap<_, _>>())
}

/// Returns the event types that are published to a topic: by default the one with the topic's name.
pub(super) fn types_on(topic: &str) -> Vec<&'static str> {
    let mut types: Vec<_> = events::SCHEMAS.iter().map(|it| it.event_type).collect();
    types.retain(|it| *it == topic);
    types.dedup();
    assert!(!types.is_empty(), "no schema describes what is published to {topic}");
    types
}

fn channel(topic: &TopicSpec, description: &str, messages: &[&str]) -> Value {
    // `-1` keeps records for ever.
    let retention = topic.retention.map_or(-1, |it| i64::try_from(it.as_millis()).unwrap());
    json!({
        "address": topic.name,
        "title": topic.name,
        "description": description,
        "servers": [reference(&["servers", "kafka"])],
        "messages": object(messages.iter().map(|it| {
            ((*it).to_owned(), reference(&["components", "messages", it]))
        })),
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": retention,
                    "max.message.bytes": topic.max_record_bytes,
                },
                "bindingVersion": "0.5.0",
            }
        },
    })
}
