//! Compares the headers of real records with those that the document describes.

use envelope::{Cause, CorrelationId, NewEvent};
use events::{OrderCompleted, example};
use kafka::{Coordinates, DeadLetter, Headers, Reason, Record};
use serde_json::{Map, Value};

use crate::{asyncapi, services};

/// Checks that headers match the schema of a trait, and that each of them is described there.
fn check(headers: &Headers, described: &Value) {
    let given: Map<_, _> = headers
        .iter()
        .map(|(name, value)| {
            let bytes = value.unwrap_or_default();
            (name.to_owned(), String::from_utf8_lossy(bytes).into_owned().into())
        })
        .collect();
    let validator = jsonschema::draft202012::options().should_validate_formats(true);
    let validator = validator.build(described).unwrap();
    let given = Value::Object(given);
    let errors: Vec<_> = validator.iter_errors(&given).map(|it| it.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for name in given.as_object().unwrap().keys() {
        assert!(described["properties"][name].is_object(), "{name} is not described");
    }
}

fn completed() -> envelope::Encoded {
    let data: OrderCompleted = serde_json::from_str(example("order.completed").unwrap()).unwrap();
    let cause = Cause {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("vendor=1".into()),
        ..Cause::new(CorrelationId::generate())
    };
    NewEvent::new("/order", data, cause).version(2).encode().unwrap()
}

#[tokio::test]
async fn an_event_has_the_headers_that_are_described() {
    let document = asyncapi::document(&services::all());
    let headers = kafka::content_headers(&completed().envelope);
    let described = &document["components"]["messageTraits"]["CloudEvent"]["headers"];
    check(&headers, described);

    let message = &document["components"]["messages"]["order.completed"]["headers"]["properties"];
    let value = |name: &str| {
        let found = headers.last(name).map(<[u8]>::to_vec);
        String::from_utf8(found.unwrap()).unwrap()
    };
    assert_eq!(message["ce_type"]["const"], value("ce_type"));
    assert_eq!(message["ce_dataschema"]["const"], value("ce_dataschema"));
}

#[tokio::test]
async fn a_dead_letter_has_the_headers_that_are_described() {
    let document = asyncapi::document(&services::all());
    let described = &document["components"]["messageTraits"]["DeadLetter"]["headers"];
    let record = Record {
        topic: "order.completed".into(),
        partition: 3,
        offset: 17,
        timestamp: Some(1_790_000_000_123),
        key: None,
        value: None,
        headers: Headers::new(),
    };
    let letter = DeadLetter {
        origin: Coordinates::of(&record),
        group: "billing".into(),
        reason: Reason {
            exception: "Broken".into(),
            message: "no".into(),
            stacktrace: "no\nway".into(),
        },
    };
    check(&letter.headers(&record), described);
}
