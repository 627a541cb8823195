use serde_json::Value;
use time::OffsetDateTime;

use crate::attributes::{self, stored};
use crate::{
    CorrelationId, Envelope, EnvelopeError, Event, EventId, SchemaError, TenantId, TextIdError,
};

/// Bytes of the data of most events, so that they are not moved while they grow.
const USUAL_DATA: usize = 512;

/// The cause of an event: its flow, and the event or request that caused it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// Id of the flow.
    pub correlation_id: CorrelationId,
    /// The event that caused it, or `None` if a request did.
    pub causation_id: Option<EventId>,
    /// The span that creates it (W3C Trace Context), if there is one.
    pub traceparent: Option<String>,
    /// Accompanies `traceparent`.
    pub tracestate: Option<String>,
}

impl Cause {
    /// Returns the cause of an event that begins a flow, outside of any span.
    pub fn new(correlation_id: CorrelationId) -> Self {
        Self { correlation_id, causation_id: None, traceparent: None, tracestate: None }
    }
}

/// An event to publish.
///
/// ```
/// # use std::borrow::Cow;
/// # use envelope::{Event, Schema};
/// # static SHIPPED: Schema =
/// #     Schema::new(r#"{ "$id": "https://example.com/parcel.shipped/1.0.json" }"#);
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct ParcelShipped { parcel: String }
/// # impl Event for ParcelShipped {
/// #     const TYPE: &'static str = "parcel.shipped";
/// #     const SCHEMA: &'static Schema = &SHIPPED;
/// #     fn subject(&self) -> Cow<'_, str> { self.parcel.as_str().into() }
/// # }
/// use envelope::{Cause, CorrelationId, NewEvent};
///
/// let shipped = ParcelShipped { parcel: "P-17".into() };
/// let cause = Cause::new(CorrelationId::new("flow-17")?);
/// let encoded = NewEvent::new("/warehouse", shipped, cause).version(1).encode()?;
/// assert_eq!((encoded.key(), encoded.envelope.version), ("P-17", Some(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewEvent<E> {
    source: String,
    version: Option<i64>,
    cause: Cause,
    data: E,
}

/// A validated and serialised event: envelope and data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// Attributes of the event.
    pub envelope: Envelope,
    /// Data, as JSON.
    pub data: Vec<u8>,
}

impl Encoded {
    /// Returns the subject, or an empty text if it has none.
    pub fn subject(&self) -> &str {
        self.envelope.subject.as_deref().unwrap_or_default()
    }

    /// Returns the key of its record, or an empty text if it has none.
    pub fn key(&self) -> &str {
        self.envelope.partition_key.as_deref().unwrap_or_default()
    }
}

/// Why an event can't be published.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The data or the schema is invalid.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An attribute that readers would reject: see [`Envelope::from_attributes`].
    #[error("{event_type} can't be published")]
    Attribute {
        /// Event type.
        event_type: &'static str,
        /// The attribute, and the reason.
        source: EnvelopeError,
    },
    /// The tenant id is invalid.
    #[error("the tenant of {event_type} can't be used")]
    Tenant {
        /// Event type.
        event_type: &'static str,
        /// The reason.
        source: TextIdError,
    },
}

impl<E: Event> NewEvent<E> {
    /// Creates an event from its publisher (`/<service>` or any other URI reference), its data and
    /// its cause.
    pub fn new(source: impl Into<String>, data: E, cause: Cause) -> Self {
        Self { source: source.into(), version: None, cause, data }
    }

    /// Sets the version of the subject after this change, counted from 1. Subscriptions in which
    /// the latest version wins need it.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    /// Returns the data of the event.
    pub fn data(&self) -> &E {
        &self.data
    }

    /// Validates the data against the schema of its type, and serialises it with a new id and the
    /// current time.
    ///
    /// # Errors
    /// Fails with [`EncodeError`] if the schema is invalid or refuses the data, or if the tenant,
    /// the version or another attribute is invalid.
    pub fn encode(self) -> Result<Encoded, EncodeError> {
        let event_type = E::TYPE;
        let unwritable = |error: serde_json::Error| SchemaError::Unwritable {
            event_type,
            reason: error.to_string(),
        };
        let value: Value = serde_json::to_value(&self.data).map_err(unwritable)?;
        let dataschema = E::SCHEMA.check(event_type, &value)?.to_owned();
        let mut data = Vec::with_capacity(USUAL_DATA);
        serde_json::to_writer(&mut data, &self.data).map_err(unwritable)?;
        let tenant = self.data.tenant().map(TenantId::new).transpose();
        let refused = |source| EncodeError::Attribute { event_type, source };
        let stored = |name, text: &str| stored(name, text).map_err(refused);
        let Cause { correlation_id, causation_id, traceparent, tracestate } = self.cause;
        let envelope = Envelope {
            id: EventId::generate(),
            source: stored("source", &self.source)?,
            event_type: stored("type", event_type)?,
            time: Some(OffsetDateTime::now_utc()),
            subject: Some(stored("subject", &self.data.subject())?),
            dataschema: Some(dataschema),
            version: self.version.map(counted).transpose().map_err(refused)?,
            tenant_id: tenant.map_err(|source| EncodeError::Tenant { event_type, source })?,
            correlation_id,
            causation_id,
            partition_key: Some(stored("partitionkey", &self.data.partition_key())?),
            // A malformed trace context must not fail the work. Readers ignore it, too.
            traceparent: traceparent.and_then(attributes::traceparent),
            tracestate: tracestate.and_then(attributes::tracestate),
        };
        Ok(Encoded { envelope, data })
    }
}

/// Returns a valid version, or fails.
fn counted(version: i64) -> Result<i64, EnvelopeError> {
    let refused = || EnvelopeError::Invalid("sequence", version.to_string(), "a version from 1");
    (version >= 1).then_some(version).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Schema;

    static SHIPPED: Schema = Schema::new(r#"{ "$id": "https://example.com/1.0.json" }"#);

    #[derive(Serialize, Deserialize)]
    struct ParcelShipped(String);

    impl Event for ParcelShipped {
        const TYPE: &'static str = "parcel.shipped";
        const SCHEMA: &'static Schema = &SHIPPED;

        fn subject(&self) -> Cow<'_, str> {
            self.0.as_str().into()
        }
    }

    #[test]
    fn what_no_reader_would_take_is_not_published() {
        let encode = |source: &str, subject: &str| {
            let cause = Cause::new(CorrelationId::generate());
            NewEvent::new(source, ParcelShipped(subject.to_owned()), cause).encode()
        };
        assert!(encode("/warehouse", "P-17").is_ok());
        for (source, subject) in [("/warehouse", "x".repeat(513)), ("/ware\0house", "P-17".into())]
        {
            let refused = encode(source, &subject);
            assert!(matches!(refused, Err(EncodeError::Attribute { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_trace_context_that_no_reader_would_take_is_left_out() {
        let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
        let cause = Cause {
            traceparent,
            tracestate: Some("vendor=a\0b".into()),
            ..Cause::new(CorrelationId::generate())
        };
        let event = NewEvent::new("/warehouse", ParcelShipped("P-17".into()), cause.clone());
        let envelope = event.encode().expect("an event").envelope;
        assert_eq!((envelope.traceparent, envelope.tracestate), (cause.traceparent, None));
    }
}
