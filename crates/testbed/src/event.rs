use envelope::{Cause, CorrelationId, Encoded, Event, EventId, NewEvent};
use events::OrderId;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Returns an event about a new order of a tenant, at version 1: the example of its schema, in a
/// flow of its own.
///
/// # Panics
/// If the example is not one of that type.
pub fn event_of<E: Event>(tenant: &str) -> Encoded {
    let example = events::example(E::TYPE).unwrap_or_else(|| panic!("no schema of {}", E::TYPE));
    let mut data: Value = serde_json::from_str(example).expect("an example in JSON");
    data["order_id"] = OrderId::new().to_string().into();
    data["tenant_id"] = tenant.into();
    let data: E = serde_json::from_value(data)
        .unwrap_or_else(|error| panic!("the example of {}: {error}", E::TYPE));
    let cause = Cause::new(CorrelationId::generate());
    NewEvent::new("/order", data, cause).version(1).encode().expect("an event")
}

/// Returns the same event with another id, which no inbox contains.
#[must_use]
pub fn with_new_id(event: &Encoded) -> Encoded {
    let mut copy = event.clone();
    copy.envelope.id = EventId::generate();
    copy
}

/// Parses a time in RFC 3339.
///
/// # Panics
/// If the text is not one.
pub fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|error| panic!("{text}: {error}"))
}
