use std::collections::BTreeMap;

use chassis::ServiceDescription;
use serde_json::{Value, json};

use super::channels::{DEAD_LETTER, types_on};
use super::{object, reference};

const TRAITS: &str = include_str!("traits.json");

/// Returns the headers of events and of dead letters.
pub(super) fn traits() -> Value {
    serde_json::from_str(TRAITS).unwrap()
}

/// Returns the messages: one for each event type that is published or consumed, and the dead
/// letter.
pub(super) fn all(descriptions: &[ServiceDescription]) -> Value {
    let published = descriptions.iter().flat_map(|it| &it.publishes);
    let published = published.flat_map(|topic| types_on(&topic.name));
    let consumed = descriptions.iter().flat_map(|it| &it.subscriptions);
    let consumed = consumed.flat_map(|it| it.handles.iter().map(|(_, event_type)| *event_type));
    let mut all: BTreeMap<_, _> =
        published.chain(consumed).map(|it| (it.to_owned(), event(it))).collect();
    all.insert(DEAD_LETTER.to_owned(), dead_letter());
    object(all)
}

/// Describes events of a type by its newest schema.
fn event(event_type: &str) -> Value {
    let newest = events::SCHEMAS.iter().rfind(|it| it.event_type == event_type);
    let newest = newest.unwrap_or_else(|| panic!("{event_type} has no schema"));
    let schema: Value = serde_json::from_str(newest.schema).unwrap();
    let example: Value = serde_json::from_str(newest.example).unwrap();
    json!({
        "name": event_type,
        "title": event_type,
        "summary": schema["description"],
        "contentType": "application/json",
        "correlationId": { "location": "$message.header#/ce_correlationid" },
        "traits": [reference(&["components", "messageTraits", "CloudEvent"])],
        "headers": {
            "type": "object",
            "properties": {
                "ce_type": { "const": event_type },
                "ce_dataschema": { "const": schema["$id"] },
            },
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": schema,
        },
        "examples": [{ "name": newest.version, "payload": example }],
        "bindings": {
            "kafka": {
                "key": { "type": "string", "format": "uuid", "description": "Id of the order" },
                "bindingVersion": "0.5.0",
            }
        },
    })
}

fn dead_letter() -> Value {
    json!({
        "name": DEAD_LETTER,
        "title": "Dead letter",
        "summary": "An unchanged copy of a message, with headers that name its origin and the reason of the failure.",
        "description": "A copy that would be too large for the topic has no value.",
        "traits": [reference(&["components", "messageTraits", "DeadLetter"])],
        "payload": { "description": "The value of the original record, byte for byte." },
    })
}
