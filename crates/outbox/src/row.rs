use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use telemetry::{OutgoingEvent, TraceContext};

use crate::in_flight::{LARGEST_COST, OVERHEAD};

const MICROS_OF_A_DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// The columns of a [`Row`], of a table that has them all.
macro_rules! columns {
    () => {
        "id, shard, topic, key, headers, payload, clock_timestamp() - created_at"
    };
}
pub(crate) use columns;

/// A waiting event, borrowed from the row that was read.
pub(crate) struct Row<'r> {
    pub(crate) id: i64,
    pub(crate) shard: i16,
    pub(crate) topic: &'r str,
    pub(crate) key: &'r str,
    /// JSON, parsed in place where needed and never copied, since every row has a dozen headers.
    headers: &'r [u8],
    pub(crate) payload: &'r [u8],
    /// Time since it was written, by the database's clock.
    waited: Duration,
}

impl<'r> Row<'r> {
    /// Reads [`columns`].
    pub(crate) fn of(row: &'r PgRow) -> sqlx::Result<Self> {
        let waited: PgInterval = row.try_get(6)?;
        let micros = i64::from(waited.days) * MICROS_OF_A_DAY + waited.microseconds;
        Ok(Self {
            id: row.try_get(0)?,
            shard: row.try_get(1)?,
            topic: row.try_get(2)?,
            key: row.try_get(3)?,
            headers: row.try_get_raw(4)?.as_bytes().map_err(sqlx::Error::Decode)?,
            payload: row.try_get(5)?,
            waited: Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        })
    }

    pub(crate) fn headers(&self) -> serde_json::Result<Headers<'r>> {
        serde_json::from_slice(self.headers)
    }

    /// Returns the record's cost in bytes in flight. Headers are shorter than their JSON.
    pub(crate) fn cost(&self) -> usize {
        let bytes = self.payload.len() + self.key.len() + self.headers.len() + OVERHEAD;
        bytes.min(LARGEST_COST)
    }

    /// Returns the event, for its publication. The row was read at `read`.
    pub(crate) fn event<'a>(
        &'a self,
        headers: &'a Headers<'_>,
        created_in: Option<&'a TraceContext>,
        read: SystemTime,
    ) -> OutgoingEvent<'a> {
        OutgoingEvent {
            topic: self.topic,
            key: self.key,
            event_id: headers.get("ce_id"),
            event_type: headers.get("ce_type"),
            source: headers.get("ce_source"),
            subject: headers.get("ce_subject"),
            tenant_id: headers.get("ce_tenantid"),
            correlation_id: headers.get("ce_correlationid"),
            created_in,
            written: read.checked_sub(self.waited).unwrap_or(read),
            read,
        }
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

    /// Returns the span in which the event was created.
    pub(crate) fn created_in(&self) -> Option<TraceContext> {
        self.get("ce_traceparent")
            .map(|parent| TraceContext::new(parent, self.get("ce_tracestate")))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
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
