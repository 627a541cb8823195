use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Gauge, Registry, TextEncoder};

/// The metrics of one service.
///
/// ```
/// let metrics = telemetry::Metrics::new("accounting");
/// let charged = metrics.meter("accounting").u64_counter("charged").build();
/// charged.add(3, &[]);
/// assert!(metrics.render().contains("charged_total"));
/// ```
#[derive(Clone, Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
}

impl Metrics {
    /// Creates a registry with the time of this call as the start of the process, under the name
    /// that Prometheus's client libraries give it. `service` becomes `service.name`.
    ///
    /// # Panics
    /// Never: nothing can conflict with another metric of a new registry.
    pub fn new(service: &'static str) -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .expect("a new registry takes the exporter");
        let started = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch, in seconds",
        );
        started
            .and_then(|gauge| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                gauge.set(now.as_secs_f64());
                registry.register(Box::new(gauge))
            })
            .expect("a new registry takes the metric");
        let resource = Resource::builder().with_service_name(service).build();
        let provider =
            SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build();
        Self { provider, registry }
    }

    /// Returns a meter, which creates instruments. `scope` is the name of the crate that records.
    pub fn meter(&self, scope: &'static str) -> Meter {
        self.provider.meter(scope)
    }

    /// Returns all metrics in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "metrics not rendered");
                String::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_services_in_one_process_do_not_mix() {
        let (one, other) = (Metrics::new("one"), Metrics::new("other"));
        one.meter("outbox").u64_counter("outbox.published").build().add(3, &[]);
        assert!(one.render().contains("outbox_published_total"), "{}", one.render());
        assert!(!other.render().contains("outbox_published_total"));
    }
}
