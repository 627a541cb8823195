use std::collections::BTreeMap;

use chassis::ServiceDescription;
use serde_json::{Value, json};

use super::channels::{DEAD_LETTER, types_on};
use super::{object, reference};

/// Returns the operations: what each service publishes and consumes.
pub(super) fn all(descriptions: &[ServiceDescription]) -> Value {
    let mut all = BTreeMap::new();
    for description in descriptions {
        let service = description.service;
        for topic in &description.publishes {
            let summary = format!("The {service} service publishes through its outbox.");
            let send = operation("send", service, &topic.name, &types_on(&topic.name), &summary);
            all.insert(format!("{service}.send.{}", topic.name), send);
        }
        for subscription in &description.subscriptions {
            let group = &subscription.group;
            let mut topics: BTreeMap<_, Vec<&str>> = BTreeMap::new();
            for (topic, event_type) in &subscription.handles {
                topics.entry(*topic).or_default().push(event_type);
            }
            for (topic, types) in topics {
                let summary = format!("The group `{group}` of the {service} service consumes.");
                let mut receive = operation("receive", service, topic, &types, &summary);
                receive["bindings"]["kafka"] = json!({
                    "groupId": { "type": "string", "enum": [group] },
                    "bindingVersion": "0.5.0",
                });
                all.insert(format!("{group}.receive.{topic}"), receive);
            }
            let letters = kafka::dead_letter_topic(group).name;
            let summary = format!("The group `{group}` copies its dead letters.");
            let bury = operation("send", service, &letters, &[DEAD_LETTER], &summary);
            all.insert(format!("{group}.send.{letters}"), bury);
        }
    }
    object(all)
}

fn operation(action: &str, service: &str, topic: &str, messages: &[&str], summary: &str) -> Value {
    let messages: Vec<_> =
        messages.iter().map(|it| reference(&["channels", topic, "messages", it])).collect();
    json!({
        "action": action,
        "channel": reference(&["channels", topic]),
        "summary": summary,
        "tags": [{ "name": service }],
        "messages": messages,
    })
}
