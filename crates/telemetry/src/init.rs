use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::flow::FlowLayer;
use crate::log::{Lines, LogFormat, SpanFields};

/// Set by [`init`] if it exports spans.
static EXPORTS_SPANS: AtomicBool = AtomicBool::new(false);

/// Returns whether spans of this process are exported.
pub fn exports_spans() -> bool {
    EXPORTS_SPANS.load(Ordering::Relaxed)
}

/// A set-up that failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The OTLP settings are invalid.
    #[error("the OTEL_EXPORTER_OTLP_* variables are invalid")]
    Exporter(#[from] ExporterBuildError),
    /// Another subscriber was installed before.
    #[error("a tracing subscriber is installed already")]
    Installed(#[from] TryInitError),
}

/// Keeps the export of spans alive. [`Tracing::shutdown`] sends the remaining spans.
#[derive(Debug)]
pub struct Tracing {
    /// `None` if spans are not exported.
    provider: Option<SdkTracerProvider>,
}

impl Tracing {
    /// Sends the remaining spans, within a time limit. If the future is dropped, unsent spans are
    /// lost.
    pub async fn shutdown(self, within: Duration) {
        let Some(provider) = self.provider else { return };
        let flush = move || provider.shutdown_with_timeout(within);
        // The call blocks, and the exporter needs this runtime meanwhile.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(flush).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "spans lost at shutdown");
        }
    }
}

/// Installs the global subscriber of this process. Call it once, in a Tokio runtime.
///
/// `RUST_LOG` filters log lines (default `info`). `OTEL_EXPORTER_OTLP_ENDPOINT` is the receiver of
/// spans; without it none are exported.
///
/// ```no_run
/// # async fn example() -> Result<(), telemetry::InitError> {
/// use std::time::Duration;
///
/// use telemetry::LogFormat;
///
/// let tracing = telemetry::init("accounting", LogFormat::fitting_stdout())?;
/// // .. run the service, then send the remaining spans:
/// tracing.shutdown(Duration::from_secs(2)).await;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Fails with [`InitError`] if another subscriber is installed already, or if the OTLP settings are
/// invalid.
pub fn init(service: &'static str, format: LogFormat) -> Result<Tracing, InitError> {
    let provider = if exports() { Some(exporting(service)?) } else { None };
    // Without an exporter the layer would cost a tenth of the time of an order, for spans that are
    // not exported.
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(crate::TRACER))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    });
    let wanted = lines_wanted();
    // One filter for all layers. Filters per layer leave stale state behind when a library only
    // asks whether a line is enabled, and the next span is lost (tokio-rs/tracing#2519). Spans are
    // kept regardless of RUST_LOG, since they carry the trace context.
    let filter = filter_fn(move |metadata| {
        let level = metadata.level();
        let span = metadata.is_span() && *level <= Level::INFO;
        span || wanted.would_enable(metadata.target(), level)
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(FlowLayer)
        .with(spans)
        .with(SpanFields)
        .with(Lines::new(service, format))
        .try_init()?;
    EXPORTS_SPANS.store(provider.is_some(), Ordering::Relaxed);
    Ok(Tracing { provider })
}

fn exporting(service: &'static str) -> Result<SdkTracerProvider, InitError> {
    let exporter =
        SpanExporter::builder().with_http().with_http_client(OnRuntime::new()).build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_batch_exporter(exporter)
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    Ok(provider)
}

/// Returns the filter of log lines: `RUST_LOG` (`target=level,..`), over defaults that silence
/// noisy libraries.
fn lines_wanted() -> Targets {
    let wanted = Targets::new()
        .with_default(LevelFilter::INFO)
        // Health and metrics report unavailable brokers once; librdkafka would repeat it.
        .with_target("librdkafka", LevelFilter::OFF)
        .with_target("rdkafka", LevelFilter::OFF)
        .with_target("sqlx", LevelFilter::WARN)
        .with_target("sqlx::postgres::notice", LevelFilter::OFF);
    let given = std::env::var("RUST_LOG").ok().and_then(|given| given.parse::<Targets>().ok());
    let Some(given) = given else { return wanted };
    let default = given.default_level().unwrap_or(LevelFilter::INFO);
    given
        .into_iter()
        .fold(wanted.with_default(default), |all, (target, level)| all.with_target(target, level))
}

fn exports() -> bool {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|endpoint| !endpoint.is_empty()))
}

/// Sends requests on the runtime, since the exporter calls from its own thread, where hyper finds
/// no reactor.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient,
    runtime: Handle,
}

impl OnRuntime {
    fn new() -> Self {
        let client = HyperClient::with_default_connector(Duration::from_secs(5), None);
        Self { client, runtime: Handle::current() }
    }
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
