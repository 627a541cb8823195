//! The outbox of a service, from its metrics.

use std::time::Duration;

use super::Metrics;

/// The outbox's metrics, by their names in the exposition.
pub(crate) const OUTBOX_AGE: &str = "outbox_age_seconds";
pub(crate) const OUTBOX_DEPTH: &str = "outbox_depth";

/// Maximum age of an event in a healthy outbox.
const LATE: Duration = Duration::from_secs(30);

/// The events that wait in the outbox.
pub(crate) struct Outbox {
    pub(crate) depth: u64,
    /// Age of the oldest event.
    pub(crate) age: Duration,
}

impl Metrics {
    /// Returns the outbox, or `None` if the service exports no metrics of it.
    pub(crate) fn outbox(&self) -> Option<Outbox> {
        let age = self.largest(OUTBOX_AGE).unwrap_or_default();
        let age = Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // The conversion saturates.
        let depth = self.largest(OUTBOX_DEPTH)? as u64;
        Some(Outbox { depth, age })
    }
}

impl Outbox {
    /// Returns `true` if the oldest event is older than [`LATE`].
    pub(crate) fn is_late(&self) -> bool {
        self.depth > 0 && self.age >= LATE
    }
}
