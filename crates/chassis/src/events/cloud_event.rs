//! CloudEvents' HTTP protocol binding, binary and structured mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>).

use std::borrow::Cow;
use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use envelope::{Envelope, Ignored, RawEvent, is_json};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::http::{Problem, media_type, read};

/// Maximum size of a body: an event that Kafka accepts, and its attributes.
const MAX_BYTES: usize = 1024 * 1024 + 64 * 1024;

const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";

/// An event in a request. Its data is declared as JSON and not parsed yet.
#[derive(Clone, Debug)]
pub(crate) struct CloudEvent {
    pub(crate) envelope: Envelope,
    pub(crate) data: Bytes,
    ignored: Vec<Ignored>,
}

impl CloudEvent {
    /// Returns the event in the form that subscriptions take.
    pub(super) fn raw(&self) -> RawEvent<'_> {
        RawEvent {
            envelope: self.envelope.clone(),
            data: Cow::Borrowed(&self.data),
            ignored: self.ignored.clone(),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for CloudEvent {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let media_type = media_type(&parts.headers);
        let body = read(body, MAX_BYTES).await?;
        if media_type.eq_ignore_ascii_case(STRUCTURED) {
            structured(&body)
        } else if is_json(media_type) {
            binary(&parts.headers, body)
        } else {
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                format!(
                    "send one CloudEvent with JSON data: its attributes as ce- headers and {JSON}, or {STRUCTURED}"
                ),
            ))
        }
    }
}

/// Reads an event whose attributes are headers and whose data is the body.
fn binary(headers: &HeaderMap, data: Bytes) -> Result<CloudEvent, Problem> {
    let mut attributes = HashMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("ce-") {
            let value = value.to_str().ok().and_then(decode).ok_or_else(|| {
                Problem::bad_request(format!("the header ce-{name} is not percent-encoded UTF-8"))
            })?;
            attributes.insert(name.to_owned(), value);
        }
    }
    let (envelope, ignored) =
        Envelope::from_attributes(|name| attributes.get(name).map(String::as_str))
            .map_err(refused)?;
    Ok(CloudEvent { envelope, data, ignored })
}

/// Removes quotes (RFC 9110, section 5.6.4), then decodes one round of percent-encoding (section
/// 3.1.3.2 of the binding).
fn decode(value: &str) -> Option<String> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = quoted.map_or(Cow::Borrowed(value), |quoted| {
        let mut escaped = false;
        let keep = |c: &char| {
            escaped = *c == '\\' && !escaped;
            !escaped
        };
        Cow::Owned(quoted.chars().filter(keep).collect())
    });
    Some(percent_decode_str(&value).decode_utf8().ok()?.into_owned())
}

/// Reads an event whose body has both attributes and data.
fn structured(body: &Bytes) -> Result<CloudEvent, Problem> {
    let RawEvent { envelope, data, ignored } = RawEvent::from_json(body).map_err(refused)?;
    let data = match data {
        Cow::Borrowed(data) => body.slice_ref(data),
        Cow::Owned(data) => data.into(),
    };
    Ok(CloudEvent { envelope, data, ignored })
}

fn refused(error: impl std::error::Error) -> Problem {
    let mut detail = format!("the event: {error}");
    if let Some(cause) = error.source() {
        detail = format!("{detail}: {cause}");
    }
    Problem::bad_request(detail)
}

/// Characters to escape in a header's value: everything but printable ASCII, and of that space,
/// double quote and percent sign (section 3.1.3.2 of the binding).
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Returns the headers of an event in binary mode, whose data is the body, for `POST /events` of
/// another service.
pub fn binary_headers(envelope: &Envelope) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    for (name, value) in envelope.attributes() {
        let value = utf8_percent_encode(&value, ESCAPED).to_string();
        // Neither can fail: attribute names are plain, and escaped values are printable.
        let name = HeaderName::try_from(format!("ce-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use cloudevents::event::ExtensionValue;
    use cloudevents::{AttributesReader, EventBuilder, EventBuilderV10};
    use envelope::TenantId;
    use serde_json::{Value, json};

    use super::*;

    fn sdk_event() -> cloudevents::Event {
        EventBuilderV10::new()
            .id("grüße \"1\" 100%")
            .source("/warehouse")
            .ty("parcel.shipped")
            .subject("018f4e3a-0000-7000-8000-000000000001")
            .data(JSON, json!({ "total": 900, "name": "Ünal" }))
            .extension("sequence", ExtensionValue::String("00000000000000000002".into()))
            .extension("tenantid", ExtensionValue::String("acme".into()))
            .build()
            .expect("an event")
    }

    fn check(event: &CloudEvent) {
        assert_eq!(event.envelope.id.as_str(), "grüße \"1\" 100%");
        assert_eq!(
            (event.envelope.version, event.envelope.tenant_id.as_ref().map(TenantId::as_str)),
            (Some(2), Some("acme"))
        );
        let data: Value = serde_json::from_slice(&event.data).expect("JSON");
        assert_eq!(data, json!({ "total": 900, "name": "Ünal" }));
    }

    /// Header values are encoded as the specification requires: the SDK leaves that to its caller.
    #[test]
    fn binary_mode_is_read() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "gr%C3%BC%C3%9Fe%20%221%22%20100%25"),
            ("ce-source", "\"/warehouse\""),
            ("ce-type", "parcel.shipped"),
            ("ce-subject", "018f4e3a-0000-7000-8000-000000000001"),
            ("ce-sequence", "00000000000000000002"),
            ("ce-tenantid", "acme"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        let data = Bytes::from(json!({ "total": 900, "name": "Ünal" }).to_string());
        check(&binary(&headers, data.clone()).expect("an event"));

        headers.insert("ce-id", "%ff".parse().expect("a value"));
        assert!(binary(&headers, data.clone()).is_err(), "no UTF-8");
        headers.remove("ce-id");
        assert!(binary(&headers, data).is_err(), "no id");
    }

    /// Decodes the values, since the SDK leaves that to its caller, too.
    #[test]
    fn what_we_write_in_binary_mode_the_sdk_reads() {
        let ours =
            structured(&serde_json::to_vec(&sdk_event()).expect("JSON").into()).expect("an event");
        let mut request = axum::http::Request::new(ours.data.to_vec());
        *request.headers_mut() = binary_headers(&ours.envelope);
        let read = cloudevents::binding::http::to_event(request.headers(), ours.data.to_vec());
        let read = read.expect("an event");
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        assert_eq!(plain(read.id()), ours.envelope.id.as_str());
        assert_eq!(
            (read.ty(), read.subject()),
            ("parcel.shipped", ours.envelope.subject.as_deref())
        );
        assert_eq!(read.extension("tenantid").expect("an extension").to_string(), "acme");
        check(&binary(request.headers(), ours.data).expect("an event"));
    }

    #[test]
    fn what_the_sdk_writes_in_structured_mode_is_read() {
        let body = serde_json::to_vec(&sdk_event()).expect("JSON");
        check(&structured(&body.into()).expect("an event"));
        let base64 = json!({
            "specversion": "1.0", "id": "1", "source": "/warehouse", "type": "parcel.shipped",
            "subject": "s", "sequence": 2, "tenantid": "acme", "data_base64": "e30=",
        });
        let event = structured(&base64.to_string().into()).expect("an event");
        assert_eq!((&event.data[..], event.envelope.version), (&b"{}"[..], Some(2)));
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        let sound = serde_json::to_value(sdk_event()).expect("JSON");
        for (member, value) in [
            ("data", Value::Null),
            ("data_base64", json!("e30=")),
            ("datacontenttype", json!("text/xml")),
            ("sequence", json!([1])),
            ("id", Value::Null),
            ("specversion", json!("0.3")),
        ] {
            let mut event = sound.clone();
            event[member] = value.clone();
            if value.is_null() {
                event.as_object_mut().expect("an object").remove(member);
            }
            assert!(structured(&event.to_string().into()).is_err(), "{member} {value}");
        }
        assert!(structured(&Bytes::from_static(b"[]")).is_err());
    }
}
