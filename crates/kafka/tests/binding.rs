//! The CloudEvents binding against the specification, and against the SDK's event model and HTTP binding.
//! Kafka's binding and HTTP's differ in the prefix alone (`ce_` and `ce-`) for values of printable ASCII,
//! so one can be held against the other.

#![allow(clippy::unwrap_used)]

use cloudevents::binding::http::to_event;
use cloudevents::event::ExtensionValue;
use cloudevents::{AttributesReader, Data, Event as SdkEvent, EventBuilder, EventBuilderV10};
use events::{Cause, CorrelationId, Encoded, EventId, Message, OrderCompleted, SCHEMAS};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use kafka::{DecodeError, Headers, Record, content_headers, decode};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn completed() -> Encoded {
    let file = SCHEMAS.iter().find(|file| file.event_type == "order.completed").unwrap();
    let data: OrderCompleted = serde_json::from_str(file.example).unwrap();
    let cause = Cause {
        correlation_id: CorrelationId::new("flow-1").unwrap(),
        causation_id: Some(EventId::new("request 17").unwrap()),
        traceparent: Some(TRACEPARENT.into()),
    };
    Message::new("/order", 2, data, cause).encode().unwrap()
}

fn record(headers: Headers, value: Option<&[u8]>) -> Record {
    Record {
        topic: "order.completed".into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(key, _)| key == name)?;
    value.as_deref().map(|value| std::str::from_utf8(value).unwrap())
}

fn to_http(headers: &Headers) -> HeaderMap {
    let pairs = headers.iter().map(|(name, value)| {
        let name: HeaderName = name.replace("ce_", "ce-").parse().unwrap();
        (name, HeaderValue::from_bytes(value.as_deref().unwrap()).unwrap())
    });
    pairs.collect()
}

fn from_http(headers: &HeaderMap) -> Headers {
    let pairs = headers
        .iter()
        .map(|(name, value)| (name.as_str().replace("ce-", "ce_"), Some(value.as_bytes().into())));
    pairs.collect()
}

#[test]
fn headers_are_what_the_specification_says() {
    let event = completed();
    let headers = content_headers(&event.envelope);
    for (name, value) in &headers {
        assert!(name == "content-type" || name.starts_with("ce_"), "{name}");
        let attribute = name.strip_prefix("ce_").unwrap_or("datacontenttype");
        assert!(
            attribute.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{attribute}"
        );
        assert!(value.as_ref().is_some_and(|value| !value.is_empty()), "{name} is empty");
    }
    let order_id = event.envelope.subject.as_str();
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", event.envelope.id.as_str()),
        ("ce_source", "/order"),
        ("ce_type", "order.completed"),
        ("ce_subject", order_id),
        ("ce_sequence", "00000000000000000002"),
        ("ce_tenantid", "acme"),
        ("ce_correlationid", "flow-1"),
        ("ce_causationid", "request 17"),
        ("ce_partitionkey", order_id),
        ("ce_traceparent", TRACEPARENT),
        ("ce_dataschema", "https://orderflow.example/schemas/order.completed/1.0.json"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(&headers, name), Some(value), "{name}");
    }
    assert!(header(&headers, "ce_time").unwrap().ends_with('Z'));
    assert!(header(&headers, "ce_datacontenttype").is_none(), "content-type carries it");
}

#[test]
fn what_we_write_the_sdk_reads() {
    let ours = completed();
    let sdk: SdkEvent =
        to_event(&to_http(&content_headers(&ours.envelope)), ours.data.clone()).unwrap();
    assert_eq!(sdk.id(), ours.envelope.id.as_str());
    assert_eq!(sdk.source().as_str(), "/order");
    assert_eq!(sdk.ty(), "order.completed");
    assert_eq!(sdk.subject(), Some(ours.envelope.subject.as_str()));
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
    let ours = completed();
    let sdk = EventBuilderV10::new()
        .id("an id of another system")
        .source("https://shop.example/checkout")
        .ty("order.completed")
        .subject(ours.envelope.subject.clone())
        .time("2026-11-23T10:17:02.5+01:00")
        .data_with_schema(
            "application/json",
            "https://shop.example/order.completed/1.4.json",
            ours.data.clone(),
        )
        .extension("sequence", "7")
        .extension("tenantid", "acme")
        .extension("shoppingcart", "unknown to us")
        .build()
        .unwrap();
    let request: Request<Option<Vec<u8>>> = sdk.try_into().unwrap();
    let data = request.body().clone().unwrap();
    let record = record(from_http(request.headers()), Some(&data));
    let (envelope, data) = decode(&record).unwrap();
    assert_eq!(envelope.id.as_str(), "an id of another system");
    assert_eq!(envelope.source, "https://shop.example/checkout");
    assert_eq!(envelope.version, 7);
    assert_eq!(envelope.time.unwrap().unix_timestamp(), 1_795_425_422);
    assert_eq!(envelope.partition_key, envelope.subject, "a missing partitionkey is the subject");
    assert!(!envelope.correlation_id.as_str().is_empty(), "a missing correlation id is made");
    assert_eq!(envelope.readable_as::<OrderCompleted>(), Ok(()));
    assert_eq!(
        serde_json::from_slice::<OrderCompleted>(data).unwrap().order.tenant_id.as_str(),
        "acme"
    );
}

#[test]
fn there_and_back_is_the_same() {
    let mut ours = completed();
    ours.envelope.id = EventId::new("Bestellung №7").unwrap();
    let record = record(content_headers(&ours.envelope), Some(&ours.data));
    let (envelope, data) = decode(&record).unwrap();
    assert_eq!(Encoded { envelope, data: data.to_vec() }, ours);
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let ours = completed();
    let good = content_headers(&ours.envelope);
    let with = |name: &str, value: Option<&[u8]>| {
        let mut headers = good.clone();
        headers.retain(|(key, _)| key != name);
        headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
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
    assert!(refused("ce_sequence", Some(b"0")).contains("sequence"));
    assert!(refused("ce_sequence", Some(b"99999999999999999999")).contains("sequence"));
    assert!(refused("ce_tenantid", Some(b"a b")).contains("tenantid"));
    assert!(refused("ce_time", Some(b"noon")).contains("time"));
    assert!(
        refused("content-type", Some(b"application/cloudevents+json")).contains("content type")
    );
    assert_eq!(with("content-type", Some(b"application/json; charset=utf-8")), Ok(()));
    assert!(matches!(decode(&record(good.clone(), None)), Err(DecodeError::NoValue)));
    assert!(matches!(decode(&record(Vec::new(), Some(&[0xff, 0]))), Err(DecodeError::Envelope(_))));
}

#[test]
fn another_type_or_an_unknown_major_is_not_readable() {
    let mut envelope = completed().envelope;
    assert!(
        envelope.readable_as::<events::OrderCreated>().unwrap_err().contains("order.completed")
    );
    envelope.dataschema = Some("https://orderflow.example/schemas/order.completed/2.0.json".into());
    assert!(envelope.readable_as::<OrderCompleted>().unwrap_err().contains("major 1"));
    envelope.dataschema = Some("urn:nothing".into());
    assert!(envelope.readable_as::<OrderCompleted>().is_err());
    envelope.dataschema = None;
    assert_eq!(envelope.readable_as::<OrderCompleted>(), Ok(()));
}
