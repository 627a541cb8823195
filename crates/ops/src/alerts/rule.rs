use std::time::Duration;

use crate::lag::LAG_THRESHOLD;

/// An alert rule, evaluated for each group, service or kind separately.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rule {
    /// The rule's name in Prometheus.
    pub name: &'static str,
    /// The alert fires above this value.
    pub threshold: f64,
    /// How long the condition must hold before the alert fires.
    pub holds_for: Duration,
    /// How long the alert keeps firing after the condition last held.
    pub keeps_firing_for: Duration,
    /// The first step for an operator, with `<group>` as a placeholder for the group. The runbook
    /// has the rest.
    pub(super) what_to_do: &'static str,
}

const HALF_MINUTE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_mins(1);

const fn rule(name: &'static str, threshold: f64, what_to_do: &'static str) -> Rule {
    Rule { name, threshold, holds_for: HALF_MINUTE, keeps_firing_for: MINUTE, what_to_do }
}

#[allow(clippy::cast_precision_loss)] // The number is small.
pub(super) const LAG_HIGH: Rule = rule(
    "LagHigh",
    LAG_THRESHOLD as f64,
    "orderflow lag: is the service running, and is it catching up? orderflow subscriptions: is it stopped?",
);
pub(super) const LAG_SECONDS: Rule = rule(
    "LagSeconds",
    300.0,
    "orderflow lag: is it catching up? If not, look at orderflow subscriptions and the service's log",
);
pub(super) const STALLED: Rule = rule(
    "Stalled",
    0.0,
    "orderflow subscriptions: is it paused, is its breaker open, does it wait for its database?",
);
pub(super) const NEAR_RETENTION: Rule = rule(
    "NearRetention",
    0.5,
    "raise retention.ms of the topic now, then find the cause of the lag with orderflow lag",
);
pub(super) const MESSAGES_LOST: Rule = rule(
    "MessagesLost",
    0.0,
    "raise retention.ms of the topic, then restore the lost messages from the publisher's data",
);
pub(super) const DEAD_LETTERS_ARRIVING: Rule = rule(
    "DeadLettersArriving",
    0.0,
    "orderflow dlq groups --group <group>: fix the cause, rehearse, replay",
);
pub(super) const NEW_FAILURE_REASON: Rule = rule(
    "NewFailureReason",
    0.0,
    "orderflow dlq groups --group <group>: look at the newest reason",
);
pub(super) const OUTBOX_AGE: Rule = rule(
    "OutboxAge",
    60.0,
    "look at the service's /readyz and log: is Kafka unavailable, or does a topic refuse records?",
);
pub(super) const JOBS_FAILED: Rule = rule(
    "JobsFailed",
    0.0,
    "orderflow jobs list --state failed: fix the cause, then retry or discard them",
);
pub(super) const DEFERRED_DROPPED: Rule = rule(
    "DeferredDropped",
    0.0,
    "deferred tasks were dropped: find in the service's log what its tasks wait for",
);
pub(super) const SERVICE_DOWN: Rule =
    rule("ServiceDown", 0.0, "look at the service's /readyz and log; start it again");
pub(super) const LAG_UNKNOWN: Rule = rule(
    "LagUnknown",
    0.0,
    "orderflow lag shows what can't be measured: Kafka, a partition without a leader, or a missing topic",
);

/// All rules.
pub const RULES: [Rule; 12] = [
    LAG_HIGH,
    LAG_SECONDS,
    STALLED,
    NEAR_RETENTION,
    MESSAGES_LOST,
    DEAD_LETTERS_ARRIVING,
    NEW_FAILURE_REASON,
    OUTBOX_AGE,
    JOBS_FAILED,
    DEFERRED_DROPPED,
    SERVICE_DOWN,
    LAG_UNKNOWN,
];

/// How long a dead letter or a dropped task counts as arriving: the range of `increase()` in
/// Prometheus's rules.
pub const ARRIVING_FOR: Duration = Duration::from_mins(5);
/// How long a reason counts as new.
pub const NEW_FOR: Duration = Duration::from_mins(10);
