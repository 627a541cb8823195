//! The AsyncAPI document as a page: topics, their publishers and consumers, and the fields of their
//! messages.

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use serde_json::Value;

use super::contracts;
use crate::console::{Area, Console, Page, PageError, Session, filters};

/// A topic of events.
struct Topic {
    name: String,
    summary: String,
    publishers: String,
    consumers: String,
    setting: String,
    fields: Vec<Field>,
    example: String,
}

/// A member of a message's payload, or one of its headers.
struct Field {
    name: String,
    kind: String,
    is_required: bool,
    description: String,
}

#[derive(Template)]
#[template(path = "api/events.html")]
struct Events {
    page: Page,
    description: String,
    topics: Vec<Topic>,
    headers: Vec<Field>,
    letter_headers: Vec<Field>,
    /// Topics of dead letters.
    letters: Vec<String>,
}

/// `GET /api/events`
pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
) -> Result<Html<String>, PageError> {
    let page = console.page("Events", Area::Api, &session);
    let document = contracts::text(contracts::EVENTS).unwrap_or_default();
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let channels = || document["channels"].as_object().into_iter().flatten();
    let (letters, topics): (Vec<_>, Vec<_>) =
        channels().partition(|(_, channel)| channel["messages"]["dead-letter"].is_object());
    let traits = &document["components"]["messageTraits"];
    let events = Events {
        page,
        // Markdown, but its only markup is code.
        description: text(&document["info"]["description"]).replace('`', ""),
        topics: topics.iter().map(|(name, channel)| topic(&document, name, channel)).collect(),
        headers: fields(&traits["CloudEvent"]["headers"]),
        letter_headers: fields(&traits["DeadLetter"]["headers"]),
        letters: letters.iter().map(|(name, _)| (*name).clone()).collect(),
    };
    Ok(Html(events.render()?))
}

fn topic(document: &Value, name: &str, channel: &Value) -> Topic {
    let messages = channel["messages"].as_object();
    let message = messages.and_then(|it| it.keys().next()).map_or("", String::as_str);
    let message = &document["components"]["messages"][message];
    let reference = format!("#/channels/{name}");
    let operations = document["operations"].as_object().into_iter().flatten();
    let of_topic: Vec<_> =
        operations.filter(|(_, it)| it["channel"]["$ref"] == *reference).collect();
    let acting = |action: &str, name: fn(&str, &Value) -> String| {
        let acting = of_topic.iter().filter(|(_, it)| it["action"] == action);
        acting.map(|(id, operation)| name(id, operation)).collect::<Vec<_>>().join(", ")
    };
    let example = &message["examples"][0]["payload"];
    Topic {
        name: name.to_owned(),
        summary: text(&message["summary"]),
        publishers: acting("send", |_, operation| text(&operation["tags"][0]["name"])),
        consumers: acting("receive", |_, it| text(&it["bindings"]["kafka"]["groupId"]["enum"][0])),
        setting: setting(&channel["bindings"]["kafka"]),
        fields: fields(&message["payload"]["schema"]),
        example: serde_json::to_string_pretty(example).unwrap_or_default(),
    }
}

fn setting(kafka: &Value) -> String {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let kept = match kafka["topicConfiguration"]["retention.ms"].as_i64() {
        Some(milliseconds) if milliseconds >= 0 => format!("kept for {} days", milliseconds / DAY),
        _ => "kept forever".to_owned(),
    };
    format!("{} partitions, {kept}", kafka["partitions"])
}

fn fields(schema: &Value) -> Vec<Field> {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, of): (&String, &Value)| Field {
        name: name.clone(),
        kind: kind(of),
        is_required: required.iter().any(|it| it == name),
        description: text(&of["description"]),
    };
    properties.map(field).collect()
}

fn kind(schema: &Value) -> String {
    match (&schema["const"], &schema["format"], &schema["type"]) {
        (Value::Null, Value::String(format), _) => format.clone(),
        (Value::Null, _, kind) => text(kind),
        (constant, ..) => constant.to_string(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
