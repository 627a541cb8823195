//! AsyncAPI: one document for the events of all services.

mod channels;
mod messages;
mod operations;

use chassis::ServiceDescription;
use serde_json::{Map, Value, json};

use crate::{committed, services};

const DESCRIPTION: &str = "The events of Orderflow, as CloudEvents in binary mode. The key is the order's id, so the \
    events of an order stay in order. Delivery is at least once: tell duplicates by `ce_source` and `ce_id`, and take \
    the order's version from `ce_sequence`. Within a major version of a schema only optional fields are added.";

/// Returns the AsyncAPI document of these services.
pub(crate) fn document(descriptions: &[ServiceDescription]) -> Value {
    json!({
        "asyncapi": "3.1.0",
        "id": "https://orderflow.example/asyncapi.json",
        "info": {
            "title": "Orderflow events",
            "version": "1.0.0",
            "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "Set by `KAFKA_BROKERS`. `KAFKA_TOPIC_PREFIX` precedes the names of topics and groups.",
            }
        },
        "channels": channels::all(descriptions),
        "operations": operations::all(descriptions),
        "components": {
            "messages": messages::all(descriptions),
            "messageTraits": messages::traits(),
        },
    })
}

/// Returns a reference to another part of the document.
fn reference(parts: &[&str]) -> Value {
    let escaped: Vec<_> = parts.iter().map(|it| it.replace('~', "~0").replace('/', "~1")).collect();
    json!({ "$ref": format!("#/{}", escaped.join("/")) })
}

fn object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(members.into_iter().collect::<Map<_, _>>())
}

#[tokio::test]
async fn the_events_of_all_services_are_as_committed() {
    committed::compare("asyncapi.json", &document(&services::all()));
}
