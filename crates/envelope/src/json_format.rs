//! CloudEvents' JSON event format: attributes and data in one document
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Envelope, EnvelopeError, Ignored};

/// The default media type of the data.
const JSON: &str = "application/json";

/// Beginning of the media types of whole events.
const CLOUDEVENTS: &str = "application/cloudevents";

/// Why a document is not an event in the JSON format with JSON data.
#[derive(Debug, thiserror::Error)]
pub enum StructuredError {
    /// The document is not a JSON object.
    #[error("it is not a JSON object")]
    Json(#[from] serde_json::Error),
    /// The document has neither `data` nor `data_base64`, or both.
    #[error("it must have either data or data_base64")]
    Data,
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64")]
    Base64(#[from] base64::DecodeError),
    /// An attribute is an object or a list.
    #[error("the attribute {0} is neither text, number nor boolean")]
    Attribute(String),
    /// The data is not JSON.
    #[error("datacontenttype is {0:?}, which is not JSON")]
    ContentType(String),
    /// The attributes are not a valid envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// An event as read from a binding. Its data is not parsed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawEvent<'a> {
    /// Attributes of the event.
    pub envelope: Envelope,
    /// Data declared as JSON.
    pub data: Cow<'a, [u8]>,
    /// Unusable attributes.
    pub ignored: Vec<Ignored>,
}

impl<'a> RawEvent<'a> {
    /// Reads a document of the JSON event format (`application/cloudevents+json`).
    ///
    /// # Errors
    /// Fails with [`StructuredError`] if the document is not a JSON object, its data is missing or
    /// of another content type, or its attributes are not a valid envelope.
    pub fn from_json(document: &'a [u8]) -> Result<Self, StructuredError> {
        let mut members: HashMap<String, &'a RawValue> = serde_json::from_slice(document)?;
        let data = match (members.remove("data"), members.remove("data_base64")) {
            (Some(data), None) => Cow::Borrowed(data.get().as_bytes()),
            (None, Some(encoded)) => {
                let encoded: String = serde_json::from_str(encoded.get())?;
                Cow::Owned(BASE64_STANDARD.decode(encoded)?)
            }
            _ => return Err(StructuredError::Data),
        };
        let mut attributes = HashMap::new();
        for (name, value) in members {
            let value = match serde_json::from_str(value.get()) {
                Ok(Value::String(text)) => text,
                Ok(Value::Number(number)) => number.to_string(),
                Ok(Value::Bool(truth)) => truth.to_string(),
                Ok(Value::Null) => continue,
                _ => return Err(StructuredError::Attribute(name)),
            };
            attributes.insert(name, value);
        }
        let content_type = attributes.get("datacontenttype").map_or(JSON, String::as_str);
        if !is_json(content_type) {
            return Err(StructuredError::ContentType(content_type.to_owned()));
        }
        let (envelope, ignored) =
            Envelope::from_attributes(|name| attributes.get(name).map(String::as_str))?;
        Ok(Self { envelope, data, ignored })
    }
}

/// Returns `true` if a media type, with or without parameters, denotes data in JSON: its subtype is
/// `json` or has the suffix `+json` (section 3.1 of the JSON event format). Those of whole events
/// and of batches of them, `application/cloudevents*`, do not.
pub fn is_json(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let prefix = media_type.get(..CLOUDEVENTS.len());
    if prefix.is_some_and(|it| it.eq_ignore_ascii_case(CLOUDEVENTS)) {
        return false;
    }
    let Some((_, subtype)) = media_type.split_once('/') else { return false };
    let format = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    format.eq_ignore_ascii_case("json")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sound() -> Value {
        json!({
            "specversion": "1.0", "id": "1", "source": "/warehouse", "type": "parcel.shipped",
            "sequence": 2, "data": { "parcel": "P-17" }
        })
    }

    #[test]
    fn attributes_may_be_text_numbers_or_booleans() {
        let document = sound().to_string();
        let event = RawEvent::from_json(document.as_bytes()).expect("an event");
        assert_eq!(event.envelope.version, Some(2));
        assert_eq!(&*event.data, br#"{"parcel":"P-17"}"#);
    }

    #[test]
    fn data_may_come_as_base64() {
        let mut event = sound();
        event.as_object_mut().expect("an object").remove("data");
        event["data_base64"] = json!("e30=");
        let document = event.to_string();
        let event = RawEvent::from_json(document.as_bytes()).expect("an event");
        assert_eq!(&*event.data, b"{}");
    }

    #[test]
    fn a_media_type_is_json_by_its_subtype_or_suffix() {
        for media_type in [
            "application/json",
            "Text/JSON ; charset=utf-8",
            "application/vnd.warehouse.parcel+json",
            "application/vnd.a+b+JSON;v=1",
        ] {
            assert!(is_json(media_type), "{media_type}");
        }
        for media_type in [
            "",
            "json",
            "text/xml",
            "application/json-seq",
            "application/json+xml",
            "application/xml;as=a/b+json",
            "application/cloudevents+json",
            "Application/CloudEvents-Batch+JSON; charset=utf-8",
        ] {
            assert!(!is_json(media_type), "{media_type}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        for (member, value, reason) in [
            ("data", Value::Null, "either data or data_base64"),
            ("data_base64", json!("e30="), "either data or data_base64"),
            ("datacontenttype", json!("text/xml"), "text/xml"),
            ("sequence", json!([1]), "sequence"),
            ("id", Value::Null, "id is missing"),
            ("specversion", json!("0.3"), "specversion"),
        ] {
            let mut event = sound();
            event[member] = value.clone();
            if value.is_null() {
                event.as_object_mut().expect("an object").remove(member);
            }
            let document = event.to_string();
            let error = RawEvent::from_json(document.as_bytes()).expect_err(member).to_string();
            assert!(error.contains(reason), "{member}: {error}");
        }
        assert!(RawEvent::from_json(b"[]").is_err());
    }
}
