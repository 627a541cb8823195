use std::env::{self, VarError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::export::OnRuntime;
use crate::flow::FlowLayer;
use crate::log::{Lines, LogFormat, SpanFields};

const LOG_FILTER: &str = "RUST_LOG";
/// The endpoint of the collector. The first one that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Set by [`init`] if it exports spans.
static EXPORTS_SPANS: AtomicBool = AtomicBool::new(false);

/// Returns whether spans of this process are exported.
pub fn exports_spans() -> bool {
    EXPORTS_SPANS.load(Ordering::Relaxed)
}

/// A set-up that failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A variable has an invalid value.
    #[error("{variable} can't be used: {why}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Why its value is invalid.
        why: String,
    },
    /// The exporter can't be created from the OTLP settings.
    #[error("the OTEL_EXPORTER_OTLP_* variables are invalid")]
    Exporter(#[from] ExporterBuildError),
    /// Another subscriber was installed before.
    #[error("a tracing subscriber is installed already")]
    Installed(#[from] TryInitError),
}

impl InitError {
    fn variable(variable: &'static str, why: &str) -> Self {
        Self::Variable { variable, why: why.to_owned() }
    }
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
/// Fails with [`InitError`] if another subscriber is installed already, or if `RUST_LOG` or a
/// setting of the export of spans is invalid.
pub fn init(service: &'static str, format: LogFormat) -> Result<Tracing, InitError> {
    let wanted = lines_wanted(variable(LOG_FILTER)?.as_deref())?;
    let provider = if exports()? { Some(exporting(service)?) } else { None };
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

/// Returns the filter of log lines: the given one (`target=level,..`), over defaults that silence
/// noisy libraries.
fn lines_wanted(given: Option<&str>) -> Result<Targets, InitError> {
    let wanted = Targets::new()
        .with_default(LevelFilter::INFO)
        // Health and metrics report unavailable brokers once; librdkafka would repeat it.
        .with_target("librdkafka", LevelFilter::OFF)
        .with_target("rdkafka", LevelFilter::OFF)
        .with_target("sqlx", LevelFilter::WARN)
        .with_target("sqlx::postgres::notice", LevelFilter::OFF);
    let Some(given) = given else { return Ok(wanted) };
    let given = given
        .parse::<Targets>()
        .map_err(|why| InitError::variable(LOG_FILTER, &why.to_string()))?;
    let default = given.default_level().unwrap_or(LevelFilter::INFO);
    Ok(given
        .into_iter()
        .fold(wanted.with_default(default), |all, (target, level)| all.with_target(target, level)))
}

/// Returns whether spans are exported, and checks the settings of their export.
fn exports() -> Result<bool, InitError> {
    for name in ENDPOINTS {
        if let Some(endpoint) = variable(name)? {
            check_endpoint(name, &endpoint)?;
            check_sampler(variable(SAMPLER)?.as_deref(), variable(SAMPLER_ARGUMENT)?.as_deref())?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the value of a variable. Returns `None` if it is not set or empty.
fn variable(name: &'static str) -> Result<Option<String>, InitError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(InitError::variable(name, "it is not valid Unicode")),
    }
}

/// Checks an endpoint. The exporter takes one without a scheme, and every export fails.
fn check_endpoint(name: &'static str, endpoint: &str) -> Result<(), InitError> {
    let endpoint = endpoint.parse::<http::Uri>();
    if endpoint.is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https"))) {
        return Ok(());
    }
    Err(InitError::variable(name, "it is not a URL that begins with http:// or https://"))
}

/// Checks the sampler. The SDK replaces one that it can't use by one that takes all traces.
fn check_sampler(sampler: Option<&str>, argument: Option<&str>) -> Result<(), InitError> {
    let always = ["always_on", "always_off", "parentbased_always_on", "parentbased_always_off"];
    let by_share = ["traceidratio", "parentbased_traceidratio"];
    let Some(sampler) = sampler.filter(|sampler| !always.contains(sampler)) else { return Ok(()) };
    if !by_share.contains(&sampler) {
        let why = format!("it is none of {}, {}", always.join(", "), by_share.join(", "));
        return Err(InitError::variable(SAMPLER, &why));
    }
    let is_share =
        |argument: &str| argument.parse().is_ok_and(|share: f64| (0.0..=1.0).contains(&share));
    if argument.is_none_or(is_share) {
        return Ok(());
    }
    Err(InitError::variable(SAMPLER_ARGUMENT, "it is not a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why<T>(checked: Result<T, InitError>) -> String {
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_log_filter_that_can_not_be_read_is_named() {
        let given = lines_wanted(Some("warn,outbox=debug")).expect("a filter");
        assert!(given.would_enable("outbox", &Level::DEBUG));
        assert!(!given.would_enable("order", &Level::INFO));
        let why = why(lines_wanted(Some("warn,outbox=loud")));
        assert!(why.starts_with("RUST_LOG can't be used: "), "{why}");
    }

    #[test]
    fn an_endpoint_that_spans_can_not_be_sent_to_is_named() {
        let [of_traces, of_all] = ENDPOINTS;
        for endpoint in ["http://jaeger:4318", "https://otlp.example/v1/traces"] {
            assert_eq!(why(check_endpoint(of_all, endpoint)), "");
        }
        for endpoint in ["collector:4318", "collector:4318/v1/traces", "htps://collector", "/"] {
            let why = why(check_endpoint(of_traces, endpoint));
            assert!(why.starts_with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT can't be used: "), "{why}");
        }
    }

    #[test]
    fn a_sampler_that_would_be_replaced_is_named() {
        for (sampler, argument) in [
            (None, Some("a tenth")),
            (Some("always_off"), None),
            (Some("traceidratio"), None),
            (Some("parentbased_traceidratio"), Some("0.1")),
        ] {
            assert_eq!(why(check_sampler(sampler, argument)), "");
        }
        for (sampler, argument, name) in [
            ("traceidration", "0.1", SAMPLER),
            ("xray", "1.0", SAMPLER),
            ("traceidratio", "10%", SAMPLER_ARGUMENT),
            ("parentbased_traceidratio", "10", SAMPLER_ARGUMENT),
            ("parentbased_traceidratio", "NaN", SAMPLER_ARGUMENT),
        ] {
            let why = why(check_sampler(Some(sampler), Some(argument)));
            assert!(why.starts_with(&format!("{name} can't be used: ")), "{why}");
        }
    }
}
