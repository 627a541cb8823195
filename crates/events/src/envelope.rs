use std::borrow::Cow;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{Event, SchemaVersion};
use crate::schema::{self, SchemaViolation};
use crate::{CorrelationId, EventId, TenantId, TextIdError};

/// The version of the CloudEvents specification that is spoken here.
pub const SPEC_VERSION: &str = "1.0";

/// What is said about an event besides its data: CloudEvents 1.0 context attributes, with the
/// Sequence, Partitioning and Distributed Tracing extensions and three of our own
/// (`tenantid`, `correlationid`, `causationid`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// `id`: unique within `source`.
    pub id: EventId,
    /// `source`: who says it; a URI reference, ours are `/<service>`.
    pub source: String,
    /// `type`: what happened, and the topic.
    pub event_type: String,
    /// `time`: when it happened. Ours always have it.
    pub time: Option<OffsetDateTime>,
    /// `subject`: the order id.
    pub subject: String,
    /// `dataschema`: the schema of the data; without one, major 1 is meant.
    pub dataschema: Option<String>,
    /// `sequence`: the order's version after this change, from 1.
    pub version: i64,
    /// `tenantid`: whose data it is.
    pub tenant_id: TenantId,
    /// `correlationid`: the flow it belongs to.
    pub correlation_id: CorrelationId,
    /// `causationid`: the event that caused it, if one did.
    pub causation_id: Option<EventId>,
    /// `partitionkey`: events with the same one stay in order.
    pub partition_key: String,
    /// `traceparent`: the span in which it was created (W3C Trace Context).
    pub traceparent: Option<String>,
}

/// Attributes that make no envelope: which one, and why.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// A required attribute is absent or empty.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// An attribute has a value that it can't have.
    #[error("the attribute {0} is {1:?}, which is not {2}")]
    Invalid(&'static str, String, &'static str),
    /// An id is malformed.
    #[error("the attribute {0}: {1}")]
    Id(&'static str, TextIdError),
}

impl Envelope {
    /// Every attribute but `datacontenttype`, which each binding carries in its own way, as
    /// name and canonical text (CloudEvents 1.0, "Type System").
    pub fn attributes(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut attributes = vec![
            ("specversion", Cow::from(SPEC_VERSION)),
            ("id", self.id.as_str().into()),
            ("source", self.source.as_str().into()),
            ("type", self.event_type.as_str().into()),
            ("subject", self.subject.as_str().into()),
            // Zero-padded, since the Sequence extension compares sequences as text.
            ("sequence", format!("{:020}", self.version).into()),
            ("tenantid", self.tenant_id.as_str().into()),
            ("correlationid", self.correlation_id.as_str().into()),
            ("partitionkey", self.partition_key.as_str().into()),
        ];
        if let Some(time) = self.time {
            // Only a year of more than four digits can't be written, and none comes out of `from_attributes`.
            let time = time.format(&Rfc3339).unwrap_or_default();
            attributes.push(("time", time.into()));
        }
        let optional = [
            ("dataschema", self.dataschema.as_deref()),
            ("causationid", self.causation_id.as_ref().map(EventId::as_str)),
            ("traceparent", self.traceparent.as_deref()),
        ];
        attributes
            .extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.into()))));
        attributes
    }

    /// Reads the attributes that `get` finds by name. Unknown ones are nobody's business here.
    pub fn from_attributes<'a>(
        get: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, EnvelopeError> {
        let optional = |name| get(name).filter(|value| !value.is_empty());
        let required = |name| optional(name).ok_or(EnvelopeError::Missing(name));

        let spec = required("specversion")?;
        if spec != SPEC_VERSION {
            return Err(EnvelopeError::Invalid("specversion", spec.to_owned(), "1.0"));
        }
        let id = EventId::new(required("id")?).map_err(|error| EnvelopeError::Id("id", error))?;
        let subject = required("subject")?;
        Ok(Self {
            source: required("source")?.to_owned(),
            event_type: required("type")?.to_owned(),
            time: optional("time").map(parse_time).transpose()?,
            dataschema: optional("dataschema").map(str::to_owned),
            version: parse_version(required("sequence")?)?,
            tenant_id: TenantId::new(required("tenantid")?)
                .map_err(|error| EnvelopeError::Id("tenantid", error))?,
            correlation_id: match optional("correlationid") {
                Some(text) => CorrelationId::new(text)
                    .map_err(|error| EnvelopeError::Id("correlationid", error))?,
                None => CorrelationId::for_event(&id),
            },
            causation_id: optional("causationid")
                .map(EventId::new)
                .transpose()
                .map_err(|error| EnvelopeError::Id("causationid", error))?,
            partition_key: optional("partitionkey").unwrap_or(subject).to_owned(),
            traceparent: optional("traceparent").map(str::to_owned),
            subject: subject.to_owned(),
            id,
        })
    }
}

fn parse_time(text: &str) -> Result<OffsetDateTime, EnvelopeError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| EnvelopeError::Invalid("time", text.to_owned(), "an RFC 3339 timestamp"))
}

fn parse_version(text: &str) -> Result<i64, EnvelopeError> {
    let version = text.parse().ok().filter(|version| *version >= 1);
    version.ok_or_else(|| EnvelopeError::Invalid("sequence", text.to_owned(), "a version from 1"))
}

/// Why an event is said: what it belongs to and where it comes from.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The flow.
    pub correlation_id: CorrelationId,
    /// The event that caused it; none if a request did.
    pub causation_id: Option<EventId>,
    /// The current span (W3C Trace Context), if there is one.
    pub traceparent: Option<String>,
}

/// An event with its envelope, ready to be checked and published.
#[derive(Clone, Debug)]
pub struct Message<E> {
    /// What is said about it.
    pub envelope: Envelope,
    /// What is said.
    pub data: E,
}

impl<E: Event> Message<E> {
    /// A new event of `source` (`/<service>`), which brought the order to `version`.
    pub fn new(source: &str, version: i64, data: E, cause: Cause) -> Self {
        let subject = data.order_id().to_string();
        let envelope = Envelope {
            id: EventId::generate(),
            source: source.to_owned(),
            event_type: E::TYPE.to_owned(),
            time: Some(OffsetDateTime::now_utc()),
            dataschema: Some(E::SCHEMA.uri(E::TYPE)),
            version,
            tenant_id: data.tenant_id().clone(),
            correlation_id: cause.correlation_id,
            causation_id: cause.causation_id,
            partition_key: subject.clone(),
            traceparent: cause.traceparent,
            subject,
        };
        Self { envelope, data }
    }

    /// Checks the data against the schema of its type and serialises it.
    pub fn encode(self) -> Result<Encoded, SchemaViolation> {
        let refused = |what: String| SchemaViolation {
            event_type: E::TYPE.to_owned(),
            version: E::SCHEMA,
            violations: vec![what],
        };
        let value: Value =
            serde_json::to_value(&self.data).map_err(|error| refused(error.to_string()))?;
        schema::check(E::TYPE, E::SCHEMA, &value)?;
        let data = serde_json::to_vec(&self.data).map_err(|error| refused(error.to_string()))?;
        Ok(Encoded { envelope: self.envelope, data })
    }
}

/// An event as it travels: the envelope and the data as JSON, accepted by its schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// What is said about it.
    pub envelope: Envelope,
    /// JSON.
    pub data: Vec<u8>,
}

impl Envelope {
    /// Whether a reader of `E` can read the data: its type, and a major that it knows.
    /// Says why not.
    pub fn readable_as<E: Event>(&self) -> Result<(), String> {
        if self.event_type != E::TYPE {
            return Err(format!("the type is {}, not {}", self.event_type, E::TYPE));
        }
        let Some(dataschema) = &self.dataschema else {
            return Ok(());
        };
        match SchemaVersion::major_of(dataschema) {
            Some(major) if major == E::SCHEMA.major => Ok(()),
            _ => Err(format!("{dataschema:?} is no schema of major {}", E::SCHEMA.major)),
        }
    }
}
