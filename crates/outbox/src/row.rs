use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use telemetry::{FlowSteps, KeyValue, TraceContext, Wait};

/// Name of the span and step of an event that waited.
const WAIT: &str = "outbox wait";

/// An event that waits to be published.
#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) topic: String,
    pub(crate) key: String,
    /// JSON: every row has a dozen of them, so they are read where they are needed and never copied.
    headers: String,
    pub(crate) payload: Vec<u8>,
    /// Seconds since it was written, by the database's clock.
    waited: f64,
}

impl Row {
    pub(crate) fn headers(&self) -> serde_json::Result<Headers<'_>> {
        serde_json::from_str(&self.headers)
    }

    /// Shows in the trace and in the flow how long it lay in the outbox until it was selected.
    pub(crate) fn record_wait(
        &self,
        headers: &Headers<'_>,
        selected: SystemTime,
        steps: &FlowSteps,
    ) {
        let waited = Duration::try_from_secs_f64(self.waited).unwrap_or_default();
        let Some(written) = selected.checked_sub(waited) else { return };
        steps.record_wait(&Wait {
            name: WAIT,
            from: written,
            until: selected,
            correlation_id: headers.get("ce_correlationid"),
            event_id: headers.get("ce_id"),
            event_type: headers.get("ce_type"),
            source: headers.get("ce_source"),
            subject: headers.get("ce_subject"),
            topic: &self.topic,
            traceparent: headers.get("ce_traceparent"),
        });
        let Some(context) = headers.created_in() else { return };
        let known = [("event_id", "ce_id"), ("correlation_id", "ce_correlationid")].into_iter();
        let known =
            known.filter_map(|(name, header)| Some((name, headers.get(header)?.to_owned())));
        let attributes = known.map(|(name, value)| KeyValue::new(name, value)).collect();
        context.record_wait(WAIT, written, selected, attributes);
    }
}

/// Headers by name.
#[derive(Default)]
pub(crate) struct Headers<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Headers<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The span in which its event was created.
    pub(crate) fn created_in(&self) -> Option<TraceContext> {
        self.get("ce_traceparent")
            .map(|parent| TraceContext::new(parent, self.get("ce_tracestate")))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InTheirOrder)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct InTheirOrder;

impl<'de> Visitor<'de> for InTheirOrder {
    type Value = Headers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers<'de>, A::Error> {
        let mut headers = Vec::with_capacity(16);
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            headers.push((name, value));
        }
        Ok(Headers(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_that_created_an_event_is_known_with_its_tracestate() {
        let text = r#"{"ce_id": "17", "ce_traceparent": "00-a-b-01", "ce_tracestate": "vendor=1"}"#;
        let headers: Headers<'_> = serde_json::from_str(text).expect("headers");
        let created_in = headers.created_in().expect("a span");
        assert_eq!(created_in, TraceContext::new("00-a-b-01", Some("vendor=1")));
    }
}
