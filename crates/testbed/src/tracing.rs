use std::sync::OnceLock;

use telemetry::{LogFormat, Tracing};

/// Installs the subscriber of this process, for tests that inspect traces or flow steps. It writes
/// no log. Later calls have no effect.
///
/// # Panics
/// If the process has another subscriber.
pub fn traced(service: &'static str) {
    static TRACING: OnceLock<Tracing> = OnceLock::new();
    TRACING.get_or_init(|| telemetry::init(service, LogFormat::Silent).expect("the subscriber"));
}
