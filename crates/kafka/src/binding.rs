//! CloudEvents' Kafka protocol binding. Written in the binary content mode: attributes are headers
//! named `ce_<attribute>`, the data is the record's value. Read in both modes
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).

use std::borrow::Cow;

use envelope::{Envelope, EnvelopeError, RawEvent, StructuredError, is_json};

use crate::{Headers, Record};

/// Prefix of the headers that are attributes.
const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";

/// A record that is not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The headers are not a valid envelope.
    #[error("not a CloudEvent in binary mode")]
    Binary(#[from] EnvelopeError),
    /// The value is not an event in the JSON format.
    #[error("not a CloudEvent in structured mode")]
    Structured(#[from] StructuredError),
    /// The data is not JSON.
    #[error("the content type is {0:?}, neither JSON nor {STRUCTURED}")]
    ContentType(String),
    /// There is no data: a tombstone.
    #[error("the record has no value")]
    NoValue,
}

/// Returns the headers of an event: its attributes and the content type.
pub fn content_headers(envelope: &Envelope) -> Headers {
    let attributes = envelope.attributes();
    let bytes = attributes.iter().map(|(name, value)| PREFIX.len() + name.len() + value.len());
    let bytes = bytes.sum::<usize>() + CONTENT_TYPE.len() + JSON.len();
    let mut headers = Headers::with_capacity(attributes.len() + 1, bytes);
    for (name, value) in attributes {
        headers.push_with_prefix(PREFIX, name, Some(value.as_bytes()));
    }
    headers.push(CONTENT_TYPE, Some(JSON.as_bytes()));
    headers
}

/// Decodes the event in a record. Headers that are not attributes are ignored.
///
/// # Errors
/// Fails if the record has no value, its content type is neither JSON nor the JSON event format, or
/// its attributes are not a valid envelope.
pub fn decode(record: &Record) -> Result<RawEvent<'_>, DecodeError> {
    let content_type = record.text_header(CONTENT_TYPE);
    let value = record.value.as_deref().ok_or(DecodeError::NoValue);
    match content_type {
        Some(content_type) if is_structured(content_type) => {
            return Ok(RawEvent::from_json(value?)?);
        }
        Some(content_type) if !is_json(content_type) => {
            return Err(DecodeError::ContentType(content_type.to_owned()));
        }
        _ => {}
    }
    let (envelope, ignored) =
        Envelope::from_attributes(|name| record.text_header_of(PREFIX, name))?;
    Ok(RawEvent { envelope, data: Cow::Borrowed(value?), ignored })
}

/// Returns whether a `content-type` denotes structured mode: the value is a whole event, not only
/// its data.
pub fn is_structured(content_type: &str) -> bool {
    media_type(content_type).eq_ignore_ascii_case(STRUCTURED)
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}
