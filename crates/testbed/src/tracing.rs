use std::sync::OnceLock;

use telemetry::{LogFormat, Tracing};

/// Installs the subscriber of this process, for tests that look at traces or flow steps. Its log is silent. Later calls
/// do nothing.
///
/// # Panics
/// If the process has another subscriber.
pub fn traced(service: &'static str) {
    static TRACING: OnceLock<Tracing> = OnceLock::new();
    TRACING.get_or_init(|| telemetry::init(service, LogFormat::Silent).expect("the subscriber"));
}
