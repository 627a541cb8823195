//! Tests of the spans of a message.

use std::sync::{Arc, LazyLock, Mutex};

use crate::events::{ParcelId, ParcelPacked};
use consumer::{Failure, Subscription};
use opentelemetry::trace::{SpanContext, Status, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use sandbox::testing::eventually;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::house::{CUSTOMER, House, PATIENCE, io, troubled};

/// The spans that ended, of all tests of this process.
#[derive(Clone, Debug, Default)]
struct EndedSpans(Arc<Mutex<Vec<SpanData>>>);

static ENDED: LazyLock<EndedSpans> = LazyLock::new(|| {
    let ended = EndedSpans::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing_subscriber::registry().with(layer).init();
    ended
});

impl SpanExporter for EndedSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Waits for the span of that name in the trace, and returns it.
async fn span_of(trace: &str, name: &str) -> SpanData {
    let of_trace = |context: &SpanContext| context.trace_id().to_string() == trace;
    ended(name, |span| of_trace(&span.span_context)).await
}

/// Waits for the span of that name that links to a trace, and returns it.
async fn span_linked_to(trace: &str, name: &str) -> SpanData {
    let of_trace = |context: &SpanContext| context.trace_id().to_string() == trace;
    ended(name, |span| span.links.iter().any(|link| of_trace(&link.span_context))).await
}

async fn ended(name: &str, is_it: impl Fn(&SpanData) -> bool) -> SpanData {
    let found = async || {
        let ended = ENDED.0.lock().unwrap();
        ended.iter().find(|span| span.name == name && is_it(span)).cloned()
    };
    eventually(&format!("a span {name:?}"), PATIENCE, found).await
}

async fn house(trace: &str) -> House {
    LazyLock::force(&ENDED);
    House { traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")), ..House::new().await }
}

fn failures(span: &SpanData) -> usize {
    let of = |name: &str| name == "attempt failed";
    span.events.iter().filter(|event| of(&event.name)).count()
}

#[tokio::test]
async fn a_message_is_one_span_with_its_retries_as_events() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let house = house(trace).await;
    let handler = troubled::<ParcelPacked>(2, || Failure::transient(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;

    let span = span_of(trace, "process parcel.packed").await;
    assert_eq!(span.span_context.trace_id().to_string(), trace);
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!((failures(&span), span.status), (2, Status::Unset), "it succeeded in the end");
    running.end().await;
}

#[tokio::test]
async fn a_replay_is_a_trace_of_its_own_that_links_to_where_the_event_was_created() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let house = house(trace).await;
    let handler = troubled::<ParcelPacked>(1, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    let dead = span_of(trace, "process parcel.packed").await;
    assert!(matches!(dead.status, Status::Error { .. }), "{:?}", dead.status);

    house.replay_all(&running).await;
    let replay = span_linked_to(trace, "process parcel.packed").await;
    assert_ne!(replay.span_context.trace_id().to_string(), trace);
    assert_eq!((replay.links.len(), replay.status), (1, Status::Unset));
    running.end().await;
}
