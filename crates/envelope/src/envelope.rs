use std::borrow::Cow;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{CorrelationId, EventId, TenantId};

/// The implemented version of the CloudEvents specification.
pub const SPEC_VERSION: &str = "1.0";

/// The context attributes of an event: those of CloudEvents 1.0, its Sequence, Partitioning and
/// Distributed Tracing extensions, and three extensions of this crate (`tenantid`, `correlationid`,
/// `causationid`).
///
/// Only `id`, `source` and `type` are always present; other producers may omit the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// `id`: unique within `source`.
    pub id: EventId,
    /// `source`: the publisher, a URI reference of at most
    /// [`MAX_TEXT_BYTES`](crate::MAX_TEXT_BYTES).
    pub source: String,
    /// `type`: what happened.
    pub event_type: String,
    /// `time`: when it happened.
    pub time: Option<OffsetDateTime>,
    /// `subject`: the entity that the event is about, at most
    /// [`MAX_TEXT_BYTES`](crate::MAX_TEXT_BYTES).
    pub subject: Option<String>,
    /// `dataschema`: the schema of the data.
    pub dataschema: Option<String>,
    /// `sequence`: the version of the subject after this change, counted from 1 by its source.
    pub version: Option<i64>,
    /// `tenantid`: the tenant whose data it is.
    pub tenant_id: Option<TenantId>,
    /// `correlationid`: the flow that the event belongs to. Derived from the id if an event has
    /// none.
    pub correlation_id: CorrelationId,
    /// `causationid`: the event that caused it, if any.
    pub causation_id: Option<EventId>,
    /// `partitionkey`: events with the same key stay in order.
    pub partition_key: Option<String>,
    /// `traceparent`: the span in which it was created (W3C Trace Context).
    pub traceparent: Option<String>,
    /// `tracestate`: goes with `traceparent`.
    pub tracestate: Option<String>,
}

impl Envelope {
    /// Returns each attribute's name and canonical text (CloudEvents 1.0, "Type System"), except
    /// for `datacontenttype`, which every binding has in its own form.
    pub fn attributes(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let required = [
            ("specversion", SPEC_VERSION),
            ("id", self.id.as_str()),
            ("source", &self.source),
            ("type", &self.event_type),
            ("correlationid", self.correlation_id.as_str()),
        ];
        let optional = [
            ("subject", self.subject.as_deref()),
            ("dataschema", self.dataschema.as_deref()),
            ("tenantid", self.tenant_id.as_ref().map(TenantId::as_str)),
            ("causationid", self.causation_id.as_ref().map(EventId::as_str)),
            ("partitionkey", self.partition_key.as_deref()),
            ("traceparent", self.traceparent.as_deref()),
            ("tracestate", self.tracestate.as_deref()),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let texts = required.into_iter().chain(optional);
        // All that there are, so that the list does not grow.
        let mut attributes = Vec::with_capacity(14);
        attributes.extend(texts.map(|(name, value)| (name, value.into())));
        if let Some(version) = self.version {
            // Zero-padded, since the Sequence extension compares sequences as text.
            attributes.push(("sequence", format!("{version:020}").into()));
        }
        // Formatting fails only for a year of more than four digits, which is never read.
        if let Some(time) = self.time.and_then(|time| time.format(&Rfc3339).ok()) {
            attributes.push(("time", time.into()));
        }
        attributes
    }
}
