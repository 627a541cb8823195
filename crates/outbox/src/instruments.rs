use telemetry::KeyValue;
use telemetry::instruments::{Counter, Gauge, Meter};

/// Metrics of the relay, with OpenTelemetry's names where they exist.
#[derive(Debug)]
pub(crate) struct Instruments {
    sent: Counter<u64>,
    failed: Counter<u64>,
    depth: Gauge<u64>,
    age: Gauge<f64>,
    shards: Gauge<u64>,
    paused: Gauge<u64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            sent: meter
                .u64_counter("messaging.client.sent.messages")
                .with_description("Events published")
                .build(),
            failed: meter
                .u64_counter("outbox.failed")
                .with_description("Attempts to publish an event that Kafka refused")
                .build(),
            depth: meter
                .u64_gauge("outbox.depth")
                .with_description("Events that wait in the outbox, counted up to 100,000")
                .build(),
            age: meter
                .f64_gauge("outbox.age")
                .with_unit("s")
                .with_description("Age of the oldest waiting event")
                .build(),
            shards: meter
                .u64_gauge("outbox.shards")
                .with_description("Shards that this instance publishes")
                .build(),
            paused: meter
                .u64_gauge("outbox.paused")
                .with_description("1 while events of a topic wait because Kafka does not take them")
                .build(),
        }
    }

    pub(crate) fn sent(&self, topic: &str, events: u64) {
        self.sent.add(events, &[destination(topic)]);
    }

    /// Exports the counters of a topic at 0 before its first record, so that its first failure
    /// counts as an increase.
    pub(crate) fn export(&self, topic: &str) {
        for counter in [&self.sent, &self.failed] {
            counter.add(0, &[destination(topic)]);
        }
        self.paused(topic, false);
    }

    pub(crate) fn failed(&self, topic: &str) {
        self.failed.add(1, &[destination(topic)]);
    }

    pub(crate) fn paused(&self, topic: &str, is_paused: bool) {
        self.paused.record(u64::from(is_paused), &[KeyValue::new("topic", topic.to_owned())]);
    }

    pub(crate) fn waiting(&self, depth: u64, age_seconds: f64) {
        self.depth.record(depth, &[]);
        self.age.record(age_seconds, &[]);
    }

    pub(crate) fn shards(&self, owned: usize) {
        self.shards.record(owned as u64, &[]);
    }
}

fn destination(topic: &str) -> KeyValue {
    KeyValue::new("messaging.destination.name", topic.to_owned())
}
