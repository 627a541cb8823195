//! Tests of the spans of a job.

use std::sync::{Arc, LazyLock, Mutex};

use envelope::{Cause, CorrelationId};
use jobs::{Meta, State};
use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use sandbox::testing::eventually;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::house::{Brief, House, PATIENCE, Work};

/// The spans that ended, of all tests of this process.
#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

static ENDED: LazyLock<Ended> = LazyLock::new(|| {
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing_subscriber::registry().with(layer).init();
    ended
});

impl SpanExporter for Ended {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Waits for the ended span of that name in that trace, and returns it.
async fn span_of(trace: &str, name: &str) -> SpanData {
    let found = async || {
        let ended = ENDED.0.lock().unwrap();
        let of = |span: &&SpanData| {
            span.name == name && span.span_context.trace_id().to_string() == trace
        };
        ended.iter().find(of).cloned()
    };
    eventually(&format!("a span {name:?}"), PATIENCE, found).await
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let of = |attribute: &&opentelemetry::KeyValue| attribute.key.as_str() == name;
    span.attributes.iter().find(of).map(|attribute| attribute.value.to_string())
}

#[tokio::test]
async fn an_attempt_is_a_span_of_the_trace_that_asked_for_it() {
    LazyLock::force(&ENDED);
    let house = House::new().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let running = house.run(house.failing::<Brief>(9));
    let cause = Cause {
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        tracestate: Some("vendor=1".into()),
        ..Cause::new(CorrelationId::new("flow-7").unwrap())
    };
    let meta = Meta::new().cause(&cause);
    let id = house.enqueue::<Brief>(meta).await;
    house.has(id, State::Failed).await;
    let span = span_of(trace, "run brief").await;
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(span.span_context.trace_state().header(), "vendor=1");
    assert_eq!(attribute(&span, "correlation_id").as_deref(), Some("flow-7"));
    assert_eq!(attribute(&span, "job.id"), Some(id.to_string()));
    assert!(attribute(&span, "error.type").unwrap().ends_with("Refused"));
    assert!(matches!(span.status, Status::Error { .. }), "{:?}", span.status);
    running.end().await;
}

#[tokio::test]
async fn the_current_span_is_the_parent_if_nobody_says_another() {
    LazyLock::force(&ENDED);
    let house = House::new().await;
    let running = house.run(house.good::<Work>());
    let request = tracing::info_span!("request");
    let trace = telemetry::TraceContext::of(&request).unwrap().traceparent;
    let id = house.enqueue::<Work>(Meta::new()).instrument(request).await;
    house.done(id).await;
    let span = span_of(&trace[3..35], "run work").await;
    assert_eq!(span.status, Status::Unset);
    running.end().await;
}
