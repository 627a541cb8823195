//! Subscription options from the environment, which override those of the code.

use std::time::Duration;

use clap::Args;
use consumer::{MemoryBudget, Options};

use super::{ConfigError, Switch, on_or_off};

/// Overrides of [`consumer::Options`]. `None` keeps the option of the code.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub(super) struct Consuming {
    /// `off` disables consumption from Kafka; events then arrive only by `POST /events`
    #[arg(long = "subscribe", env = "SUBSCRIBE", value_parser = on_or_off, default_value = "on")]
    subscribe: Switch,
    /// Number of keys that each subscription processes in parallel; the default is that of
    /// subscriptions that set none of their own
    #[arg(long = "consumer-lanes", env = "CONSUMER_LANES")]
    lanes: Option<usize>,
    /// Maximum number of messages that share a transaction; 1 disables batches; the default is that
    /// of subscriptions that set none of their own
    #[arg(long = "consumer-max-batch", env = "CONSUMER_MAX_BATCH")]
    max_batch: Option<usize>,
    /// Retries before a message becomes a dead letter
    #[arg(long = "consumer-retries", env = "CONSUMER_RETRIES")]
    retries: Option<u32>,
    /// Wait before the first retry, as in `500ms`
    #[arg(long = "consumer-first-backoff", env = "CONSUMER_FIRST_BACKOFF", value_parser = humantime::parse_duration)]
    first_backoff: Option<Duration>,
    /// Factor by which each further wait is longer
    #[arg(long = "consumer-backoff-factor", env = "CONSUMER_BACKOFF_FACTOR")]
    backoff_factor: Option<u32>,
    /// Maximum time that a message may stay in conflict, while others are committed, before its
    /// attempts count, as in `15m`
    #[arg(long = "consumer-conflict-limit", env = "CONSUMER_CONFLICT_LIMIT", value_parser = humantime::parse_duration)]
    conflict_limit: Option<Duration>,
    /// Consecutive messages of a type that use up their retries for one reason before the circuit
    /// breaker opens; 0 disables it
    #[arg(long = "consumer-breaker-letters", env = "CONSUMER_BREAKER_LETTERS")]
    breaker_letters: Option<u32>,
    /// Interval of probes while the circuit breaker is open, as in `30s`
    #[arg(long = "consumer-breaker-probe", env = "CONSUMER_BREAKER_PROBE", value_parser = humantime::parse_duration)]
    breaker_probe: Option<Duration>,
    /// Time limit of a handler, as in `10s`
    #[arg(long = "consumer-handler-timeout", env = "CONSUMER_HANDLER_TIMEOUT", value_parser = humantime::parse_duration)]
    handler_timeout: Option<Duration>,
    /// Replays of one dead letter before it is parked
    #[arg(long = "consumer-max-replays", env = "CONSUMER_MAX_REPLAYS")]
    max_replays: Option<u32>,
    /// Messages of a partition that may be queued or parked before it pauses
    #[arg(long = "consumer-max-queued", env = "CONSUMER_MAX_QUEUED")]
    max_queued: Option<usize>,
    /// Time that a broker collects messages before it sends them, as in `100ms`; the default is
    /// that of subscriptions that set none of their own
    #[arg(long = "consumer-fetch-wait", env = "CONSUMER_FETCH_WAIT", value_parser = humantime::parse_duration)]
    fetch_wait: Option<Duration>,
    /// Memory for the messages of all subscriptions of the service, in bytes; by default 8 MiB, in
    /// a container at most an eighth of its limit
    #[arg(long = "consumer-memory-bytes", env = "CONSUMER_MEMORY_BYTES")]
    memory_bytes: Option<usize>,
    /// How long a revoked partition waits for running handlers, as in `5s`
    #[arg(long = "consumer-drain-timeout", env = "CONSUMER_DRAIN_TIMEOUT", value_parser = humantime::parse_duration)]
    drain_timeout: Option<Duration>,
    /// Retention of the inbox, as in `45d`; must be longer than that of the topics. `forever` is
    /// possible
    #[arg(long = "inbox-retention", env = "INBOX_RETENTION", value_parser = retention)]
    inbox_retention: Option<Retention>,
    /// Maximum time that an event waits in its publisher's outbox, as in `7d`
    #[arg(long = "outbox-allowance", env = "OUTBOX_ALLOWANCE", value_parser = humantime::parse_duration)]
    outbox_allowance: Option<Duration>,
}

/// Retention of the inbox. `None` keeps rows for ever.
#[derive(Clone, Copy, Debug)]
struct Retention(Option<Duration>);

fn retention(text: &str) -> Result<Retention, humantime::DurationError> {
    if text == "forever" {
        return Ok(Retention(None));
    }
    humantime::parse_duration(text).map(|duration| Retention(Some(duration)))
}

impl Consuming {
    /// Creates a configuration without overrides, which consumes from Kafka.
    pub(super) fn as_written() -> Self {
        Self {
            subscribe: Switch::On,
            lanes: None,
            max_batch: None,
            retries: None,
            first_backoff: None,
            backoff_factor: None,
            conflict_limit: None,
            breaker_letters: None,
            breaker_probe: None,
            handler_timeout: None,
            max_replays: None,
            max_queued: None,
            fetch_wait: None,
            memory_bytes: None,
            drain_timeout: None,
            inbox_retention: None,
            outbox_allowance: None,
        }
    }

    /// Disables consumption from Kafka.
    pub(super) fn unsubscribed(self) -> Self {
        Self { subscribe: Switch::Off, ..self }
    }

    /// Returns `false` if events arrive only by `POST /events`.
    pub(super) fn subscribes(&self) -> bool {
        self.subscribe == Switch::On
    }

    /// Returns the budget that all subscriptions of the service share.
    pub(super) fn memory(&self) -> MemoryBudget {
        self.memory_bytes.map_or_else(MemoryBudget::default, MemoryBudget::new)
    }

    /// Returns a subscription's options with the overrides applied.
    pub(super) fn over(&self, options: &Options) -> Options {
        Options {
            lanes: self.lanes.unwrap_or(options.lanes),
            max_batch: self.max_batch.unwrap_or(options.max_batch),
            retries: self.retries.unwrap_or(options.retries),
            first_backoff: self.first_backoff.unwrap_or(options.first_backoff),
            backoff_factor: self.backoff_factor.unwrap_or(options.backoff_factor),
            conflict_limit: self.conflict_limit.unwrap_or(options.conflict_limit),
            breaker_letters: self.breaker_letters.unwrap_or(options.breaker_letters),
            breaker_probe: self.breaker_probe.unwrap_or(options.breaker_probe),
            handler_timeout: self.handler_timeout.unwrap_or(options.handler_timeout),
            max_replays: self.max_replays.unwrap_or(options.max_replays),
            max_queued: self.max_queued.unwrap_or(options.max_queued),
            fetch_wait: self.fetch_wait.unwrap_or(options.fetch_wait),
            drain_timeout: self.drain_timeout.unwrap_or(options.drain_timeout),
            inbox_retention: self.inbox_retention.map_or(options.inbox_retention, |it| it.0),
            outbox_allowance: self.outbox_allowance.unwrap_or(options.outbox_allowance),
        }
    }
}

/// Minimum number of connections that are left to requests, jobs and deferred work.
const OTHERS: u32 = 2;

/// Checks the options of all subscriptions against shared resources: the database `connections`, of
/// which each lane may use one, and the time that the service has to `drain` at shutdown.
pub(super) fn check(
    all: &[&Options],
    connections: u32,
    drain: Duration,
) -> Result<(), ConfigError> {
    let lanes: usize = all.iter().map(|options| options.lanes).sum();
    let left = usize::try_from(connections.saturating_sub(OTHERS)).unwrap_or(usize::MAX);
    if lanes > left {
        let each: Vec<_> = all.iter().map(|options| options.lanes.to_string()).collect();
        let why = format!(
            "the subscriptions have {lanes} lanes together ({}), each needs a connection, and DATABASE_CONNECTIONS={connections} \
             leaves them {left}: have fewer lanes or more connections",
            each.join(" + ")
        );
        return Err(ConfigError::Invalid("CONSUMER_LANES", why));
    }
    if all.iter().any(|options| options.drain_timeout >= drain) {
        let why = format!("the service ends within {drain:?}, and this has to be shorter");
        return Err(ConfigError::Invalid("CONSUMER_DRAIN_TIMEOUT", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_of_all_subscriptions_count_together() {
        let of = |lanes| Options { lanes, ..Options::default() };
        let check = |lanes: &[usize]| {
            let options: Vec<_> = lanes.iter().copied().map(of).collect();
            check(&options.iter().collect::<Vec<_>>(), 16, Duration::from_secs(6))
        };
        assert!(check(&[8, 4, 2]).is_ok());
        let error = check(&[8, 4, 3]).expect_err("15 lanes and two others on 16 connections");
        assert!(error.to_string().contains("15 lanes together (8 + 4 + 3)"), "{error}");
    }
}
