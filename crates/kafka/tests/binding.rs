//! The CloudEvents binding against the specification, and against the SDK's event model and HTTP
//! binding. Kafka's binding and HTTP's differ in the prefix alone (`ce_` and `ce-`) for values of
//! printable ASCII, so one can be held against the other.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use cloudevents::binding::http::to_event;
use cloudevents::event::ExtensionValue;
use cloudevents::{AttributesReader, Data, Event as SdkEvent, EventBuilder, EventBuilderV10};
use envelope::{
    Cause, CorrelationId, Encoded, Event, EventId, NewEvent, RawEvent, ReadError, Schema,
    StructuredError,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use kafka::{DecodeError, Headers, Record, content_headers, decode};
use serde::{Deserialize, Serialize};
use serde_json::json;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static SHIPPED: Schema = Schema::new(
    r#"{ "$id": "https://example.com/schemas/parcel.shipped/1.0.json", "type": "object",
         "required": ["parcel", "owner"] }"#,
);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct ParcelShipped {
    parcel: String,
    owner: String,
}

impl Event for ParcelShipped {
    const TYPE: &'static str = "parcel.shipped";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        self.parcel.as_str().into()
    }

    fn tenant(&self) -> Option<&str> {
        Some(&self.owner)
    }
}

#[derive(Serialize, Deserialize, Debug)]
struct ParcelLost;

impl Event for ParcelLost {
    const TYPE: &'static str = "parcel.lost";
    const SCHEMA: &'static Schema = &SHIPPED;

    fn subject(&self) -> Cow<'_, str> {
        "".into()
    }
}

fn shipped() -> Encoded {
    let data = ParcelShipped { parcel: "P-17".into(), owner: "acme".into() };
    let cause = Cause {
        correlation_id: CorrelationId::new("flow-1").unwrap(),
        causation_id: Some(EventId::new("request 17").unwrap()),
        traceparent: Some(TRACEPARENT.into()),
        tracestate: Some("vendor=1".into()),
    };
    NewEvent::new("/warehouse", data, cause).version(2).encode().unwrap()
}

fn record(headers: Headers, value: Option<&[u8]>) -> Record {
    Record {
        topic: "parcel.shipped".into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.last(name).map(|value| std::str::from_utf8(value).unwrap())
}

fn to_http(headers: &Headers) -> HeaderMap {
    let pairs = headers.iter().map(|(name, value)| {
        let name: HeaderName = name.replace("ce_", "ce-").parse().unwrap();
        (name, HeaderValue::from_bytes(value.unwrap()).unwrap())
    });
    pairs.collect()
}

fn from_http(headers: &HeaderMap) -> Headers {
    let pairs = headers
        .iter()
        .map(|(name, value)| (name.as_str().replace("ce-", "ce_"), Some(value.as_bytes())));
    pairs.collect()
}

#[test]
fn headers_are_what_the_specification_says() {
    let event = shipped();
    let headers = content_headers(&event.envelope);
    for (name, value) in headers.iter() {
        assert!(name == "content-type" || name.starts_with("ce_"), "{name}");
        let attribute = name.strip_prefix("ce_").unwrap_or("datacontenttype");
        assert!(
            attribute.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{attribute}"
        );
        assert!(value.as_ref().is_some_and(|value| !value.is_empty()), "{name} is empty");
    }
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", event.envelope.id.as_str()),
        ("ce_source", "/warehouse"),
        ("ce_type", "parcel.shipped"),
        ("ce_subject", "P-17"),
        ("ce_sequence", "00000000000000000002"),
        ("ce_tenantid", "acme"),
        ("ce_correlationid", "flow-1"),
        ("ce_causationid", "request 17"),
        ("ce_partitionkey", "P-17"),
        ("ce_traceparent", TRACEPARENT),
        ("ce_tracestate", "vendor=1"),
        ("ce_dataschema", "https://example.com/schemas/parcel.shipped/1.0.json"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(&headers, name), Some(value), "{name}");
    }
    assert!(header(&headers, "ce_time").unwrap().ends_with('Z'));
    assert!(header(&headers, "ce_datacontenttype").is_none(), "content-type carries it");
}

#[test]
fn what_we_write_the_sdk_reads() {
    let ours = shipped();
    let sdk: SdkEvent =
        to_event(&to_http(&content_headers(&ours.envelope)), ours.data.clone()).unwrap();
    assert_eq!(sdk.id(), ours.envelope.id.as_str());
    assert_eq!(sdk.source().as_str(), "/warehouse");
    assert_eq!(sdk.ty(), "parcel.shipped");
    assert_eq!(sdk.subject(), Some("P-17"));
    assert_eq!(sdk.datacontenttype(), Some("application/json"));
    assert_eq!(sdk.dataschema().map(ToString::to_string), ours.envelope.dataschema);
    let time = ours.envelope.time.unwrap();
    assert_eq!(
        i128::from(sdk.time().unwrap().timestamp_micros()),
        time.unix_timestamp_nanos() / 1000
    );
    let text = |text: &str| Some(ExtensionValue::String(text.to_owned()));
    assert_eq!(sdk.extension("sequence").cloned(), text("00000000000000000002"));
    assert_eq!(sdk.extension("tenantid").cloned(), text("acme"));
    assert_eq!(sdk.extension("traceparent").cloned(), text(TRACEPARENT));
    match sdk.data() {
        Some(Data::Json(data)) => {
            assert_eq!(serde_json::to_vec(data).unwrap().len(), ours.data.len());
        }
        Some(Data::Binary(data)) => assert_eq!(*data, ours.data),
        other => panic!("the data is {other:?}"),
    }
}

#[test]
fn what_the_sdk_writes_we_read() {
    let ours = shipped();
    let sdk = EventBuilderV10::new()
        .id("an id of another system")
        .source("https://other.example/warehouse")
        .ty("parcel.shipped")
        .subject("P-17")
        .time("2026-11-23T10:17:02.5+01:00")
        .data_with_schema(
            "application/json",
            "https://other.example/parcel.shipped/1.4.json",
            ours.data.clone(),
        )
        .extension("sequence", "7")
        .extension("tenantid", "acme")
        .extension("colour", "unknown to us")
        .build()
        .unwrap();
    let request: Request<Option<Vec<u8>>> = sdk.try_into().unwrap();
    let data = request.body().clone().unwrap();
    let record = record(from_http(request.headers()), Some(&data));
    let RawEvent { envelope, data, ignored } = decode(&record).unwrap();
    assert_eq!(ignored, []);
    assert_eq!(envelope.id.as_str(), "an id of another system");
    assert_eq!(envelope.source, "https://other.example/warehouse");
    assert_eq!(envelope.version, Some(7));
    assert_eq!(envelope.time.unwrap().unix_timestamp(), 1_795_425_422);
    assert_eq!(envelope.partition_key, None);
    assert_eq!(envelope.correlation_id, CorrelationId::for_event(&envelope.id));
    let read: ParcelShipped = envelope.read(&data).unwrap();
    assert_eq!(read, ParcelShipped { parcel: "P-17".into(), owner: "acme".into() });
}

#[test]
fn what_the_sdk_writes_in_structured_mode_we_read() {
    let sdk = EventBuilderV10::new()
        .id("7")
        .source("https://other.example/warehouse")
        .ty("parcel.shipped")
        .subject("P-17")
        .data("application/json", json!({ "parcel": "P-17", "owner": "acme" }))
        .extension("sequence", "7")
        .build()
        .unwrap();
    let value = serde_json::to_vec(&sdk).unwrap();
    for content_type in
        ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"]
    {
        let headers = [("content-type", Some(content_type))].into_iter().collect();
        let record = record(headers, Some(&value));
        let event = decode(&record).unwrap();
        assert_eq!(event.envelope.version, Some(7));
        let read: ParcelShipped = event.envelope.read(&event.data).unwrap();
        assert_eq!(read.owner, "acme");
    }
}

#[test]
fn data_of_a_media_type_with_the_suffix_json_is_json() {
    let ours = shipped();
    let data: serde_json::Value = serde_json::from_slice(&ours.data).unwrap();
    let binary = |media_type: &str| {
        let good = content_headers(&ours.envelope);
        let attributes = good.iter().filter(|(name, _)| *name != "content-type");
        let declared = ("content-type", Some(media_type.as_bytes()));
        record(attributes.chain([declared]).collect(), Some(&ours.data))
    };
    let structured = |media_type: &str| {
        let mut event = json!({ "datacontenttype": media_type, "data": data });
        for (name, value) in ours.envelope.attributes() {
            event[name] = json!(value);
        }
        let headers = [("content-type", Some("application/cloudevents+json"))].into_iter();
        record(headers.collect(), Some(event.to_string().as_bytes()))
    };
    for media_type in [
        "application/vnd.warehouse.parcel+json",
        "Application/Vnd.Warehouse.Parcel+JSON; version=1",
        "text/json",
    ] {
        for record in [binary(media_type), structured(media_type)] {
            let event = decode(&record).unwrap();
            assert_eq!(event.envelope, ours.envelope, "{media_type}");
            let read: ParcelShipped = event.envelope.read(&event.data).unwrap();
            assert_eq!(read.owner, "acme", "{media_type}");
        }
    }
    for media_type in ["application/cloudevents-batch+json", "application/json-seq", "text/xml"] {
        let refused = decode(&binary(media_type)).unwrap_err();
        assert!(matches!(refused, DecodeError::ContentType(_)), "{media_type}: {refused}");
        let refused = decode(&structured(media_type)).unwrap_err();
        let of_data = matches!(refused, DecodeError::Structured(StructuredError::ContentType(_)));
        assert!(of_data, "{media_type}: {refused}");
    }
}

#[test]
fn there_and_back_is_the_same() {
    let mut ours = shipped();
    ours.envelope.id = EventId::new("Bestellung №7").unwrap();
    let record = record(content_headers(&ours.envelope), Some(&ours.data));
    let event = decode(&record).unwrap();
    assert_eq!(Encoded { envelope: event.envelope, data: event.data.into_owned() }, ours);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let ours = shipped();
    let good = content_headers(&ours.envelope);
    let with = |name: &str, value: Option<&[u8]>| {
        let others = good.iter().filter(|(key, _)| *key != name);
        let headers = others.chain([(name, value)]).collect();
        decode(&record(headers, Some(b"{}"))).map(|_| ()).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        })
    };
    let refused = |name, value| with(name, value).expect_err("refused");
    assert_eq!(refused("ce_id", None), "the attribute id is missing");
    assert_eq!(refused("ce_id", Some(b"")), "the attribute id is missing");
    assert_eq!(refused("ce_type", Some(&[0xff])), "the attribute type is missing");
    assert!(refused("ce_specversion", Some(b"2.0")).contains("specversion"));
    assert!(refused("ce_tenantid", Some(b"a b")).contains("tenantid"));
    assert!(refused("content-type", Some(b"text/xml")).contains("content type"));
    assert!(refused("content-type", Some(b"application/cloudevents-batch+json")).contains("batch"));
    assert!(refused("content-type", Some(b"application/cloudevents+json")).contains("data"));
    assert_eq!(with("content-type", Some(b"application/json; charset=utf-8")), Ok(()));
    assert!(matches!(decode(&record(good.clone(), None)), Err(DecodeError::NoValue)));
    assert!(matches!(
        decode(&record(Headers::new(), Some(&[0xff, 0]))),
        Err(DecodeError::Binary(_))
    ));
}

#[test]
fn another_type_or_an_unknown_major_is_not_readable() {
    let Encoded { mut envelope, data } = shipped();
    let read = |envelope: &envelope::Envelope| envelope.read::<ParcelShipped>(&data);
    assert!(matches!(envelope.read::<ParcelLost>(&data), Err(ReadError::Type { .. })));
    envelope.dataschema = Some("https://example.com/schemas/parcel.shipped/2.0.json".into());
    assert!(matches!(read(&envelope), Err(ReadError::Major { expected: 1, .. })));
    envelope.dataschema = Some("urn:nothing".into());
    assert!(read(&envelope).is_err());
    envelope.dataschema = None;
    assert!(read(&envelope).is_ok());
}

/// A consumer that trusts only one of them would write data of another tenant or subject.
#[test]
fn an_envelope_that_names_another_tenant_or_subject_than_its_data_is_refused() {
    let Encoded { envelope, data } = shipped();
    for (attribute, changed) in [
        (
            "tenantid",
            envelope::Envelope {
                tenant_id: Some(envelope::TenantId::new("globex").unwrap()),
                ..envelope.clone()
            },
        ),
        ("subject", envelope::Envelope { subject: Some("P-18".into()), ..envelope.clone() }),
    ] {
        let refused = changed.read::<ParcelShipped>(&data).unwrap_err();
        let named =
            matches!(refused, ReadError::Disagreement { attribute: it, .. } if it == attribute);
        assert!(named, "{refused}");
    }
    let silent = envelope::Envelope { tenant_id: None, subject: None, ..envelope };
    assert!(silent.read::<ParcelShipped>(&data).is_ok(), "one that names none agrees");
}
