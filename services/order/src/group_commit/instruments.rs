use std::sync::{Arc, Mutex};
use std::time::Duration;

use telemetry::instruments::{Histogram, Meter, ObservableGauge};

use super::lock;
use super::queue::Queue;

/// Metrics of statements and of changes that wait for one.
pub(super) struct Instruments {
    batch: Histogram<u64>,
    wait: Histogram<f64>,
    /// Kept because dropping the gauge ends its observation.
    _waiting: ObservableGauge<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter, queue: Arc<Mutex<Queue>>) -> Self {
        let waiting = meter
            .u64_observable_gauge("order.changes.waiting")
            .with_description("Changes of orders that wait for a statement")
            .with_callback(move |observer| observer.observe(lock(&queue).len() as u64, &[]))
            .build();
        Self {
            batch: meter
                .u64_histogram("order.changes.batch")
                .with_description("Changes of orders that share a statement")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
                .build(),
            wait: meter
                .f64_histogram("order.changes.wait")
                .with_unit("s")
                .with_description("Time until the statement of an order's change is sent")
                .with_boundaries(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0])
                .build(),
            _waiting: waiting,
        }
    }

    pub(super) fn sent(&self, changes: usize, waited: impl Iterator<Item = Duration>) {
        self.batch.record(changes as u64, &[]);
        for waited in waited {
            self.wait.record(waited.as_secs_f64(), &[]);
        }
    }
}
