//! A dead letter's record, and its event's attributes as far as they can be read.

use kafka::{Coordinates, Headers, Reason, Record};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{FromRow, Postgres};
use uuid::Uuid;

use super::burial::{cut, fingerprint};
use crate::message::Taken;

/// Maximum length of a stored attribute, in bytes: attributes are indexed.
const MAX_ATTRIBUTE: usize = 512;

/// Columns of a letter's record, as `select` names them.
pub(super) const COLUMNS: &str =
    r#"seq, id, topic, partition, "offset", "timestamp", key, value, header_names, header_values"#;

/// Bytes of a letter's record, headers included: any part of it may be the largest.
pub(super) const BYTES: &str = "(coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0)
    + coalesce((select sum(octet_length(header)) from unnest(header_values) header), 0))::bigint";

/// Columns of a letter that is written, and the parameters that [`NewLetter::bind`] binds for them.
pub(super) const WRITTEN: &str = r#"id, subscription, topic, partition, "offset", "timestamp", key, value, header_names,
    header_values, event_id, event_type, source, subject, tenant, correlation_id, traceparent, exception, reason, causes,
    fingerprint"#;
pub(super) const PARAMETERS: &str = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21";

/// A letter that is to be written.
pub(super) struct NewLetter<'a> {
    pub(super) group: &'a str,
    pub(super) origin: Coordinates,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a Headers,
    pub(super) attributes: Attributes,
    pub(super) reason: &'a Reason,
    /// Kind of the failure.
    pub(super) kind: &'a str,
}

impl NewLetter<'_> {
    /// Binds the parameters 1 to 21 of a statement. The identity of a letter is 2 to 6.
    pub(super) fn bind<'q>(
        &'q self,
        statement: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let Self { group, origin, attributes, reason, .. } = self;
        let (names, values) = columns(self.headers);
        let event_type = attributes.event_type.as_deref();
        statement
            .bind(Uuid::now_v7())
            .bind(*group)
            .bind(&origin.topic)
            .bind(origin.partition)
            .bind(origin.offset)
            .bind(origin.timestamp)
            .bind(self.key)
            .bind(self.value)
            .bind(names)
            .bind(values)
            .bind(&attributes.event_id)
            .bind(&attributes.event_type)
            .bind(&attributes.source)
            .bind(&attributes.subject)
            .bind(&attributes.tenant)
            .bind(&attributes.correlation_id)
            .bind(&attributes.traceparent)
            .bind(cut(&reason.exception))
            .bind(cut(&reason.message))
            .bind(cut(&reason.stacktrace))
            .bind(fingerprint(group, event_type, self.kind))
    }
}

/// A record as it is stored.
#[derive(FromRow)]
pub(super) struct StoredRecord {
    pub(super) seq: i64,
    pub(super) id: Uuid,
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
fn columns(headers: &Headers) -> (Vec<String>, Vec<Option<&[u8]>>) {
    headers.iter().map(|(name, value)| (clean(name), value)).unzip()
}

/// Attributes of a record that may not be an event.
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
    /// Returns the attributes of the decoded event, or else those in the headers.
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

    /// Returns the attributes in the headers of a record.
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

/// Replaces NUL, which Postgres text can't contain.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
