use std::ops::RangeInclusive;
use std::time::Duration;

/// The wait after the first attempt that ended in a conflict; it doubles up to the last.
const FIRST_CONFLICT_BACKOFF: Duration = Duration::from_millis(250);
const LAST_CONFLICT_BACKOFF: Duration = Duration::from_secs(15);

/// Limits of [`Options::fetch_wait`]. With less than a millisecond the client would fetch without a
/// pause. The maximum is far below the client's time limit of a request.
const FETCH_WAIT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(5);

/// Options of a consumer.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Number of keys processed in parallel, parked ones included; each needs a connection of the
    /// pool. Default 8.
    pub lanes: usize,
    /// Maximum number of messages of a lane that share a transaction; 1 disables batches. If a
    /// batch fails, its messages are attempted one by one. Default 500.
    pub max_batch: usize,
    /// Number of retries before a message becomes a dead letter. Default 3.
    pub retries: u32,
    /// The wait before the first retry; each further one is `backoff_factor` times as long, up to
    /// an hour, with a jitter of a fifth. Default 500 ms.
    pub first_backoff: Duration,
    /// See `first_backoff`. Default 4.
    pub backoff_factor: u32,
    /// How long a message may stay in conflict, for example with a lock, while other messages are
    /// committed. Its attempts are not counted until then. Default 15 min.
    pub conflict_limit: Duration,
    /// Number of messages of one type that use up their retries for the same reason, without a
    /// success of the type in between, before the circuit breaker opens. Then nothing is consumed
    /// until a message of the type succeeds. 0 disables breakers. Default 20.
    pub breaker_letters: u32,
    /// Interval of probes while a circuit breaker is open. Default 30 s.
    pub breaker_probe: Duration,
    /// Time limit of a handler. It must be below Postgres' `idle_in_transaction_session_timeout`,
    /// so that a slow handler fails by this limit. Default 10 s.
    pub handler_timeout: Duration,
    /// Number of failed replays after which a dead letter is parked: only `force` replays it then.
    /// Default 5.
    pub max_replays: u32,
    /// How long an event's inbox row is kept; `None` keeps it for ever. It must be longer than the
    /// retention of the topics plus `outbox_allowance`; the consumer asks the brokers before it
    /// consumes. Default 45 days.
    pub inbox_retention: Option<Duration>,
    /// Maximum time that an event may wait in its publisher's outbox between two deliveries.
    /// Default 7 days.
    pub outbox_allowance: Duration,
    /// Maximum number of queued and parked messages of a partition; it pauses beyond that.
    /// Default 2,000.
    pub max_queued: usize,
    /// How long a broker collects messages, up to 64 KiB, before it sends them. They arrive up to
    /// that much later, and share transactions. For subscriptions whose effects no caller waits
    /// for. From 10 ms to 5 s: an idle subscription fetches once in this time from each broker.
    /// Default 0: a message is sent at once, and an idle subscription fetches every 100 ms.
    pub fetch_wait: Duration,
    /// How long a revoked partition or a shutdown waits for running handlers. Default 5 s.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lanes: 8,
            max_batch: 500,
            retries: 3,
            first_backoff: Duration::from_millis(500),
            backoff_factor: 4,
            conflict_limit: Duration::from_mins(15),
            breaker_letters: 20,
            breaker_probe: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(10),
            max_replays: 5,
            inbox_retention: Some(Duration::from_hours(45 * 24)),
            outbox_allowance: Duration::from_hours(7 * 24),
            max_queued: 2_000,
            fetch_wait: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Options that contradict each other.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the consumer's options can't work: {0}")]
pub struct OptionsError(String);

impl Options {
    /// Checks the options against each other and against the database's limit on idle transactions.
    ///
    /// # Errors
    /// Fails if `lanes`, `max_batch` or `max_queued` is 0, if `fetch_wait` is outside of its
    /// limits, or if `handler_timeout` is not below `idle_in_transaction`.
    pub fn check(&self, idle_in_transaction: Duration) -> Result<(), OptionsError> {
        let refuse = |what: String| Err(OptionsError(what));
        if [self.lanes, self.max_batch, self.max_queued].contains(&0) {
            return refuse("lanes, max_batch and max_queued must be at least 1".to_owned());
        }
        if !self.fetch_wait.is_zero() && !FETCH_WAIT.contains(&self.fetch_wait) {
            return refuse(format!(
                "fetch_wait ({:?}) must be 0 or {:?} to {:?}",
                self.fetch_wait,
                FETCH_WAIT.start(),
                FETCH_WAIT.end()
            ));
        }
        if self.handler_timeout >= idle_in_transaction {
            return refuse(format!(
                "handler_timeout ({:?}) must be below idle_in_transaction_session_timeout ({idle_in_transaction:?})",
                self.handler_timeout
            ));
        }
        Ok(())
    }

    /// Returns the wait before a message's `retry`th retry, counted from 1.
    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        grown(self.first_backoff, self.backoff_factor, retry, Duration::from_hours(1))
    }

    /// Returns the wait after `attempts` attempts that ended in a conflict.
    pub(crate) fn conflict_backoff(attempts: u32) -> Duration {
        grown(FIRST_CONFLICT_BACKOFF, 2, attempts, LAST_CONFLICT_BACKOFF)
    }
}

/// Returns the `times`th wait, from 1, of a series that begins with `first` and grows by `factor`
/// up to `last`, with jitter of a fifth.
fn grown(first: Duration, factor: u32, times: u32, last: Duration) -> Duration {
    let factor = factor.saturating_pow(times.saturating_sub(1));
    first.saturating_mul(factor).min(last).mul_f64(0.8 + fastrand::f64() * 0.4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_with_jitter() {
        let options = Options::default();
        for (retry, base) in [(1, 500.0), (2, 2_000.0), (3, 8_000.0)] {
            let millis = options.backoff(retry).as_secs_f64() * 1000.0;
            assert!((base * 0.8..=base * 1.2).contains(&millis), "retry {retry}: {millis} ms");
        }
        assert!(options.backoff(u32::MAX) <= Duration::from_hours(2), "no overflow");
    }

    #[test]
    fn a_fetch_neither_ends_at_once_nor_after_the_client_has_given_up() {
        let check = |fetch_wait| {
            let options = Options { fetch_wait, ..Options::default() };
            options.check(Duration::from_secs(15))
        };
        for wait in [Duration::ZERO, Duration::from_millis(10), Duration::from_secs(5)] {
            assert_eq!(check(wait), Ok(()));
        }
        for wait in [Duration::from_micros(500), Duration::from_mins(2)] {
            let error = check(wait).expect_err("refused").to_string();
            assert!(error.contains("must be 0 or 10ms to 5s"), "{error}");
        }
    }

    #[test]
    fn a_handler_must_time_out_before_its_transaction() {
        assert_eq!(Options::default().check(Duration::from_secs(15)), Ok(()));
        let error = Options::default().check(Duration::from_secs(5)).expect_err("refused");
        assert!(error.to_string().contains("handler_timeout"));
    }
}
