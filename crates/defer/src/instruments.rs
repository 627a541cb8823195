use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};

/// Metrics by label.
pub(crate) struct Instruments {
    run: Counter<u64>,
    failed: Counter<u64>,
    timed_out: Counter<u64>,
    skipped: Counter<u64>,
    dropped: Counter<u64>,
    duration: Histogram<f64>,
    waiting: UpDownCounter<i64>,
    running: UpDownCounter<i64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counter =
            |name, description| meter.u64_counter(name).with_description(description).build();
        let level = |name, description| {
            meter.i64_up_down_counter(name).with_description(description).build()
        };
        Self {
            run: counter("defer.run", "Deferred tasks that were run"),
            failed: counter("defer.failed", "Deferred tasks that failed or panicked"),
            timed_out: counter("defer.timed_out", "Deferred tasks that exceeded their time limit"),
            skipped: counter("defer.skipped", "Deferred tasks of responses that were errors"),
            dropped: counter(
                "defer.dropped",
                "Deferred tasks that there was no room or no time for",
            ),
            duration: meter
                .f64_histogram("defer.duration")
                .with_unit("s")
                .with_description("Duration of deferred tasks")
                .with_boundaries(vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0])
                .build(),
            waiting: level("defer.waiting", "Deferred tasks that wait for others of their label"),
            running: level("defer.running", "Deferred tasks that run"),
        }
    }

    pub(crate) fn ran(&self, label: &'static str, took: Duration) {
        self.run.add(1, &[task(label)]);
        self.duration.record(took.as_secs_f64(), &[task(label)]);
    }

    pub(crate) fn failed(&self, label: &'static str) {
        self.failed.add(1, &[task(label)]);
    }

    pub(crate) fn timed_out(&self, label: &'static str) {
        self.timed_out.add(1, &[task(label)]);
    }

    pub(crate) fn skipped(&self, label: &'static str) {
        self.skipped.add(1, &[task(label)]);
    }

    pub(crate) fn dropped(&self, label: &'static str) {
        self.dropped.add(1, &[task(label)]);
    }

    pub(crate) fn waiting(&self, label: &'static str) -> Level<'_> {
        Level::raise(&self.waiting, label)
    }

    pub(crate) fn running(&self, label: &'static str) -> Level<'_> {
        Level::raise(&self.running, label)
    }
}

/// Counts a task until dropped.
pub(crate) struct Level<'a> {
    of: &'a UpDownCounter<i64>,
    label: &'static str,
}

impl<'a> Level<'a> {
    fn raise(of: &'a UpDownCounter<i64>, label: &'static str) -> Self {
        of.add(1, &[task(label)]);
        Self { of, label }
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.of.add(-1, &[task(self.label)]);
    }
}

fn task(label: &'static str) -> KeyValue {
    KeyValue::new("defer.task", label)
}
