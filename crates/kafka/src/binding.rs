//! CloudEvents' Kafka protocol binding, binary content mode: attributes are headers named `ce_<attribute>`,
//! the data is the record's value (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).

use events::{Envelope, EnvelopeError};

use crate::{Headers, Record};

const CONTENT_TYPE: &str = "content-type";
const JSON: &str = "application/json";

/// A record that is no event of ours to read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The attributes make no envelope.
    #[error("not a CloudEvent in binary mode")]
    Envelope(#[from] EnvelopeError),
    /// The data is not JSON, or the event is in structured mode.
    #[error("the content type is {0:?}, not application/json")]
    ContentType(String),
    /// There is no data: a tombstone.
    #[error("the record has no value")]
    NoValue,
}

/// The headers of an event: its attributes and the content type.
pub fn content_headers(envelope: &Envelope) -> Headers {
    let attributes = envelope.attributes().into_iter();
    let mut headers: Headers = attributes
        .map(|(name, value)| (format!("ce_{name}"), Some(value.into_owned().into_bytes())))
        .collect();
    headers.push((CONTENT_TYPE.to_owned(), Some(JSON.as_bytes().to_vec())));
    headers
}

/// The envelope and the data of a record. Other headers are no business of the binding.
pub fn decode(record: &Record) -> Result<(Envelope, &[u8]), DecodeError> {
    if let Some(content_type) = record.text_header(CONTENT_TYPE) {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(JSON) {
            return Err(DecodeError::ContentType(content_type.to_owned()));
        }
    }
    let envelope = Envelope::from_attributes(|name| record.text_header(&format!("ce_{name}")))?;
    Ok((envelope, record.value.as_deref().ok_or(DecodeError::NoValue)?))
}
