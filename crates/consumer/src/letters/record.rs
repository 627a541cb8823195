//! A dead letter's record, and its event's attributes as far as they can be read.

use kafka::{Headers, Record};
use sqlx::FromRow;

use crate::message::Taken;

/// How much of an attribute is kept, in bytes: it stands in an index.
const MAX_ATTRIBUTE: usize = 512;

/// Columns of a letter's record, as `select` names them.
pub(super) const COLUMNS: &str =
    r#"seq, topic, partition, "offset", "timestamp", key, value, header_names, header_values"#;

/// A record as it is stored.
#[derive(FromRow)]
pub(super) struct StoredRecord {
    pub(super) seq: i64,
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header_names: Vec<String>,
    header_values: Vec<Option<Vec<u8>>>,
}

impl StoredRecord {
    /// Returns the record as it was consumed, or edited since.
    pub(super) fn into_record(self) -> Record {
        Record {
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: Some(self.timestamp).filter(|at| *at >= 0),
            key: self.key,
            value: self.value,
            headers: self.header_names.into_iter().zip(self.header_values).collect(),
        }
    }
}

/// Names and values of headers, in their order.
pub(super) fn columns(headers: &Headers) -> (Vec<String>, Vec<Option<&[u8]>>) {
    headers.iter().map(|(name, value)| (clean(name), value.as_deref())).unzip()
}

/// Attributes of an event that may be none.
pub(super) struct Attributes {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) source: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl Attributes {
    /// Those that the event was read with, or else what the headers say.
    pub(super) fn of(taken: &Taken) -> Self {
        let Some(envelope) = taken.envelope() else { return Self::of_record(taken.record()) };
        let attribute = |text: &str| Some(bounded(text));
        Self {
            event_id: attribute(envelope.id.as_str()),
            event_type: attribute(&envelope.event_type),
            source: attribute(&envelope.source),
            subject: envelope.subject.as_deref().map(bounded),
            tenant: envelope.tenant_id.as_ref().map(|it| bounded(it.as_str())),
            correlation_id: attribute(envelope.correlation_id.as_str()),
            traceparent: envelope.traceparent.as_ref().map(|it| bounded(it.as_ref())),
        }
    }

    /// What the headers of a record say.
    pub(super) fn of_record(record: &Record) -> Self {
        let header = |name| record.text_header(name).map(bounded);
        Self {
            event_id: header("ce_id"),
            event_type: header("ce_type"),
            source: header("ce_source"),
            subject: header("ce_subject"),
            tenant: header("ce_tenantid"),
            correlation_id: header("ce_correlationid"),
            traceparent: header("ce_traceparent").or_else(|| header("traceparent")),
        }
    }
}

fn bounded(text: &str) -> String {
    clean(&text[..text.floor_char_boundary(MAX_ATTRIBUTE)])
}

/// Postgres stores no NUL in a text.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
