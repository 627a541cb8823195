//! Metrics and traces of deferred tasks.

use std::future::pending;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use defer::{Deferrer, Ended, Options};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanId, Status, TraceContextExt, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use prometheus::{Registry, TextEncoder};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::house::{PATIENCE, deferrer};

/// Creates a deferrer with the registry of its metrics.
fn counted(options: Options) -> (Deferrer, Registry, SdkMeterProvider) {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(exporter.unwrap()).build();
    (Deferrer::new(options, &provider.meter("defer")), registry, provider)
}

/// Returns the value of the first line that begins with `name` and has that label.
fn value(registry: &Registry, name: &str, label: &str) -> Option<f64> {
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let about = format!("defer_task=\"{label}\"");
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(&about));
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn each_way_to_end_is_counted_under_its_label() {
    let options = Options { max_running: 1, max_waiting: 1, ..Options::default() };
    let (deferrer, registry, _provider) = counted(options);
    let scope = deferrer.scope();
    let defer = scope.defer();
    defer.in_order();
    defer.run("good", async {});
    defer.run("bad", async { Err::<(), _>(std::io::Error::other("no connection")) });
    defer.run("bad", async { assert!(std::hint::black_box(false), "out of order") });
    defer.run("slow", pending::<()>()).time_limit(Duration::from_millis(1));
    scope.end(Ended::Well);
    let failed = deferrer.scope();
    failed.defer().run("skipped", async {});
    failed.end(Ended::Badly);
    for _ in 0..3 {
        let scope = deferrer.scope();
        scope.defer().run("dead", pending::<()>()).time_limit(Duration::from_mins(1));
        scope.end(Ended::Well);
    }
    let of = |name, label| value(&registry, name, label);
    while of("defer_dropped_total", "dead").is_none()
        || of("defer_timed_out_total", "slow").is_none()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(of("defer_run_total", "good"), Some(1.0));
    assert_eq!(of("defer_failed_total", "good"), None);
    assert_eq!(of("defer_failed_total", "bad"), Some(2.0), "one error and one panic");
    assert_eq!(of("defer_timed_out_total", "slow"), Some(1.0));
    assert_eq!(of("defer_skipped_total", "skipped"), Some(1.0));
    assert_eq!(of("defer_run_total", "skipped"), None);
    assert_eq!(
        of("defer_dropped_total", "dead"),
        Some(1.0),
        "one runs, one waits, one is too many"
    );
    assert_eq!(of("defer_running", "dead"), Some(1.0));
    assert_eq!(of("defer_waiting", "dead"), Some(1.0));
    assert_eq!(of("defer_duration_seconds_count", "good"), Some(1.0));

    assert_eq!(deferrer.drain(Duration::ZERO).await.dropped, 3);
    assert_eq!(of("defer_dropped_total", "dead"), Some(3.0));
    assert_eq!(of("defer_running", "dead"), Some(0.0));
    assert_eq!(of("defer_waiting", "dead"), Some(0.0));
}

/// Ended spans of all tests of this process.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

static ENDED: LazyLock<Spans> = LazyLock::new(|| {
    let ended = Spans::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing_subscriber::registry().with(layer).init();
    ended
});

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Spans {
    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().iter().any(|span| span.name == name)
    }

    fn named(&self, name: &str) -> SpanData {
        let ended = self.0.lock().unwrap();
        ended.iter().find(|span| span.name == name).cloned().expect("the span has ended")
    }
}

#[tokio::test]
async fn a_task_has_a_span_of_its_own_linked_to_the_one_it_was_deferred_in() {
    LazyLock::force(&ENDED);
    let deferrer = deferrer(Options::default());
    let scope = deferrer.scope();
    let request = tracing::info_span!("request");
    let of_request = request.context().span().span_context().clone();
    request.in_scope(|| {
        scope.defer().run("linked", async {});
        scope.defer().run("too short for one", async {}).without_span();
        scope.defer().run("linked badly", async { Err::<(), _>(std::io::Error::other("refused")) });
    });
    drop(request);
    scope.end(Ended::Well);
    deferrer.drain(PATIENCE).await;
    let span = ENDED.named("deferred linked");
    assert_eq!(span.parent_span_id, SpanId::INVALID, "it does not lengthen the request's trace");
    assert_ne!(span.span_context.trace_id(), of_request.trace_id());
    assert!(!ENDED.has("deferred too short for one"));
    let failed = ENDED.named("deferred linked badly");
    // The request has ended by the time of the last task.
    for span in [&span, &failed] {
        let links: Vec<_> = span.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [of_request.span_id()], "{}", span.name);
    }
    assert!(!matches!(span.status, Status::Error { .. }));
    assert!(matches!(failed.status, Status::Error { .. }), "{:?}", failed.status);
}
