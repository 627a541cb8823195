use std::time::Duration;

use telemetry::KeyValue;
use telemetry::instruments::{Counter, Gauge, Histogram, Meter};

use crate::queue::Depth;

/// Metrics of a worker.
#[derive(Debug)]
pub(crate) struct Instruments {
    run: Counter<u64>,
    failed: Counter<u64>,
    dead: Counter<u64>,
    duration: Histogram<f64>,
    waiting: Gauge<u64>,
    age: Gauge<f64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counter = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).build()
        };
        Self {
            run: counter("jobs.run", "Attempts at jobs, with any result"),
            failed: counter("jobs.failed", "Attempts that failed"),
            dead: counter("jobs.dead", "Jobs that failed finally, and wait for an operator"),
            duration: meter
                .f64_histogram("jobs.duration")
                .with_unit("s")
                .with_description("Time of one attempt")
                .with_boundaries(vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
                ])
                .build(),
            waiting: meter
                .u64_gauge("jobs.waiting")
                .with_description("Waiting and running jobs, counted up to 10,000 a kind")
                .build(),
            age: meter
                .f64_gauge("jobs.age")
                .with_unit("s")
                .with_description("Delay of the oldest job that is due")
                .build(),
        }
    }

    /// Exports the counters of a kind at 0, so that its first event counts as an increase.
    pub(crate) fn begin(&self, kind: &str) {
        for counter in [&self.run, &self.failed, &self.dead] {
            counter.add(0, &[of(kind)]);
        }
    }

    pub(crate) fn ran(&self, kind: &str, took: Duration) {
        self.run.add(1, &[of(kind)]);
        self.duration.record(took.as_secs_f64(), &[of(kind)]);
    }

    pub(crate) fn failed(&self, kind: &str) {
        self.failed.add(1, &[of(kind)]);
    }

    pub(crate) fn dead(&self, kind: &str) {
        self.dead.add(1, &[of(kind)]);
    }

    pub(crate) fn measured(&self, kind: &str, depth: &Depth) {
        self.waiting.record(depth.waiting.unsigned_abs(), &[of(kind)]);
        self.age.record(depth.age.max(0.0), &[of(kind)]);
    }
}

fn of(kind: &str) -> KeyValue {
    KeyValue::new("job.kind", kind.to_owned())
}
