use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use telemetry::FlowSteps;
use telemetry::instruments::{Meter, ObservableCounter};

/// Counts steps. The counters are exported from the start, since an alert on an absent series never
/// fires.
pub(super) struct Instruments {
    recorded: Arc<AtomicU64>,
    /// Exported until dropped.
    _observed: [ObservableCounter<u64>; 2],
}

impl Instruments {
    pub(super) fn new(meter: &Meter, steps: FlowSteps) -> Self {
        let recorded = Arc::<AtomicU64>::default();
        let count = Arc::clone(&recorded);
        let of_recorded = meter
            .u64_observable_counter("flow.steps.recorded")
            .with_description("Steps of flows that were written to the table")
            .with_callback(move |observer| observer.observe(count.load(Ordering::Relaxed), &[]))
            .build();
        let of_lost = meter
            .u64_observable_counter("flow.steps.lost")
            .with_description("Steps of flows that were lost: there were too many, or the database was unavailable")
            .with_callback(move |observer| observer.observe(steps.lost(), &[]))
            .build();
        Self { recorded, _observed: [of_recorded, of_lost] }
    }

    pub(super) fn recorded(&self, steps: usize) {
        self.recorded.fetch_add(steps as u64, Ordering::Relaxed);
    }
}
