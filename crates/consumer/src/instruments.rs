use std::time::Duration;

use telemetry::KeyValue;
use telemetry::instruments::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use crate::outcome::Outcome;

/// Metrics of a consumer, with OpenTelemetry's names where they exist.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    group: KeyValue,
    consumed: Counter<u64>,
    settled: Counter<u64>,
    dead_lettered: Counter<u64>,
    retries: Counter<u64>,
    gaps: Counter<u64>,
    lost: Counter<u64>,
    unavailable: Counter<u64>,
    parked: UpDownCounter<i64>,
    breakers_open: Gauge<u64>,
    paused: Gauge<u64>,
    duration: Histogram<f64>,
    batch_size: Histogram<u64>,
    lag: Gauge<u64>,
    age: Gauge<f64>,
}

impl Instruments {
    /// Creates them, and exports each counter at 0: `increase()` misses the first event of a
    /// counter that begins at 1.
    pub(crate) fn new(meter: &Meter, group: &str) -> Self {
        let instruments = Self::uncounted(meter, group);
        let Self { dead_lettered, retries, gaps, lost, unavailable, .. } = &instruments;
        for counter in [dead_lettered, retries, gaps, lost, unavailable] {
            counter.add(0, std::slice::from_ref(&instruments.group));
        }
        for outcome in Outcome::ALL {
            instruments.count(outcome, 0);
        }
        instruments.parked(0);
        instruments.breakers_open(0);
        instruments.paused(false);
        instruments
    }

    fn uncounted(meter: &Meter, group: &str) -> Self {
        let counter = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).build()
        };
        Self {
            group: KeyValue::new("messaging.consumer.group.name", group.to_owned()),
            consumed: counter("messaging.client.consumed.messages", "Messages read from Kafka"),
            settled: counter("consumer.settled", "Settled messages, by outcome"),
            dead_lettered: counter(
                "consumer.dead_lettered",
                "Messages put into the dead-letter topic",
            ),
            retries: counter("consumer.retries", "Retries of messages that failed"),
            gaps: counter("consumer.gaps", "Events before which versions were missing"),
            lost: counter("consumer.lost", "Messages that were deleted before they were consumed"),
            unavailable: counter(
                "consumer.unavailable",
                "Attempts ended because the database was unavailable",
            ),
            parked: meter
                .i64_up_down_counter("consumer.parked_keys")
                .with_description("Keys that wait for a retry")
                .build(),
            breakers_open: meter
                .u64_gauge("consumer.breakers_open")
                .with_description("Circuit breakers that are open: nothing is consumed")
                .build(),
            paused: meter
                .u64_gauge("consumer.paused")
                .with_description("1 while an operator's pause holds, else 0")
                .build(),
            duration: meter
                .f64_histogram("messaging.process.duration")
                .with_unit("s")
                .with_description("Time of one attempt, its transaction included")
                .with_boundaries(vec![
                    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
                ])
                .build(),
            batch_size: meter
                .u64_histogram("consumer.batch.size")
                .with_description("Messages that shared a transaction")
                .with_boundaries(vec![2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0])
                .build(),
            lag: meter
                .u64_gauge("consumer.lag")
                .with_description("Unfinished messages of the assigned partitions")
                .build(),
            age: meter
                .f64_gauge("consumer.lag.age")
                .with_unit("s")
                .with_description("Age of the oldest unfinished message that was read")
                .build(),
        }
    }

    pub(crate) fn consumed(&self, topic: &str) {
        let topic = KeyValue::new("messaging.destination.name", topic.to_owned());
        self.consumed.add(1, &[self.group.clone(), topic]);
    }

    pub(crate) fn settled(&self, outcome: Outcome) {
        self.count(outcome, 1);
    }

    fn count(&self, outcome: Outcome, messages: u64) {
        let outcome = KeyValue::new("outcome", outcome.as_str());
        self.settled.add(messages, &[self.group.clone(), outcome]);
    }

    pub(crate) fn dead_lettered(&self) {
        self.dead_lettered.add(1, std::slice::from_ref(&self.group));
    }

    pub(crate) fn retried(&self) {
        self.retries.add(1, std::slice::from_ref(&self.group));
    }

    pub(crate) fn gaps(&self, count: usize) {
        if count > 0 {
            self.gaps.add(count as u64, std::slice::from_ref(&self.group));
        }
    }

    pub(crate) fn lost(&self, messages: u64) {
        self.lost.add(messages, std::slice::from_ref(&self.group));
    }

    pub(crate) fn unavailable(&self) {
        self.unavailable.add(1, std::slice::from_ref(&self.group));
    }

    pub(crate) fn parked(&self, change: i64) {
        self.parked.add(change, std::slice::from_ref(&self.group));
    }

    pub(crate) fn breakers_open(&self, count: usize) {
        self.breakers_open.record(count as u64, std::slice::from_ref(&self.group));
    }

    pub(crate) fn paused(&self, is_paused: bool) {
        self.paused.record(is_paused.into(), std::slice::from_ref(&self.group));
    }

    pub(crate) fn lag(&self, topic: &str, messages: u64) {
        let topic = KeyValue::new("messaging.destination.name", topic.to_owned());
        self.lag.record(messages, &[self.group.clone(), topic]);
    }

    pub(crate) fn age(&self, oldest: Duration) {
        self.age.record(oldest.as_secs_f64(), std::slice::from_ref(&self.group));
    }

    /// Counts messages that were processed in one transaction.
    pub(crate) fn batch(&self, size: usize) {
        self.batch_size.record(size as u64, std::slice::from_ref(&self.group));
    }

    pub(crate) fn attempted(&self, took: Duration) {
        self.duration.record(took.as_secs_f64(), std::slice::from_ref(&self.group));
    }
}
