//! The circuit breaker: whatever exhausts their retries, a subscription does not empty its topics into the dead letters.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;

use crate::failure::Failure;
use crate::message::{KeyHash, Taken};

/// How much of a reason is kept.
const MAX_REASON: usize = 500;

/// The circuit breakers of a subscription: one for each type of event and each kind of reason. Only messages that used up
/// their retries count; one that fails for good says nothing about others. A success of the type sets its count back.
pub(crate) struct Breakers {
    pool: PgPool,
    subscription: String,
    /// So many dead letters in a row open one; 0: none ever.
    letters: u32,
    /// How long until a message is tried again.
    probe_every: Duration,
    /// Tells the task that keeps the standing that it changed.
    changed: Arc<Notify>,
    /// Keys whose messages failed since the first letter: another one tells more.
    tried: Mutex<HashSet<KeyHash>>,
}

/// Returned by [`Breakers::count`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// The message becomes a dead letter.
    Letter,
    /// The breaker is open: the message waits until it is closed.
    Open,
}

impl Breakers {
    pub(crate) fn new(
        pool: PgPool,
        subscription: String,
        letters: u32,
        probe_every: Duration,
        changed: Arc<Notify>,
    ) -> Self {
        Self { pool, subscription, letters, probe_every, changed, tried: Mutex::default() }
    }

    /// Counts a message whose retries are used up, before it becomes a dead letter. One that is counted twice, because the
    /// process died in between, opens the breaker one letter early.
    pub(crate) async fn count(&self, taken: &Taken, failure: &Failure) -> sqlx::Result<Counted> {
        let Some(envelope) = taken.envelope().filter(|_| self.letters > 0) else {
            return Ok(Counted::Letter);
        };
        self.has_tried(taken.key_hash());
        let event_type = &*envelope.event_type;
        let mut reason = failure.reason().message;
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let counted: Option<(bool, i32)> = sqlx::query_as(
            "insert into breaker as it (subscription, event_type, fingerprint, reason, opened_at)
             values ($1, $2, $3, $4, case when $5 <= 1 then clock_timestamp() end)
             on conflict (subscription, event_type, fingerprint) do update
                 set letters = it.letters + 1, last_at = clock_timestamp(),
                     opened_at = case when it.letters + 1 >= $5 then clock_timestamp() end
                 where it.opened_at is null
             returning opened_at is not null, letters",
        )
        .bind(&self.subscription)
        .bind(event_type)
        .bind(failure.fingerprint())
        .bind(&reason)
        .bind(i32::try_from(self.letters).unwrap_or(i32::MAX))
        .fetch_optional(&self.pool)
        .await?;
        match counted {
            None => return Ok(Counted::Open),
            Some((true, letters)) => {
                tracing::error!(
                    subscription = self.subscription,
                    event_type,
                    reason,
                    letters,
                    "circuit breaker open, nothing is consumed"
                );
                self.changed.notify_one();
            }
            Some((false, _)) => {}
        }
        Ok(Counted::Letter)
    }

    /// Sets the counts of types back that had a success.
    pub(crate) async fn reset(&self, event_types: &[&str]) -> sqlx::Result<()> {
        sqlx::query(
            "delete from breaker
             where subscription = $1 and event_type = any ($2) and opened_at is null",
        )
        .bind(&self.subscription)
        .bind(event_types)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Returns the type of which a message is to be tried now, by this instance alone, if it is time for one.
    pub(crate) async fn claim_probe(&self) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar(
            "update breaker set probed_at = clock_timestamp()
             where (subscription, event_type, fingerprint) = (
                 select subscription, event_type, fingerprint from breaker
                 where subscription = $1
                   and coalesce(probed_at, opened_at) < clock_timestamp() - make_interval(secs => $2)
                 order by coalesce(probed_at, opened_at) limit 1 for update skip locked)
             returning event_type",
        )
        .bind(&self.subscription)
        .bind(self.probe_every.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
    }

    /// Closes the breakers of a type, a message of which was processed.
    pub(crate) async fn close(&self, event_type: &str) -> sqlx::Result<()> {
        sqlx::query("delete from breaker where subscription = $1 and event_type = $2")
            .bind(&self.subscription)
            .bind(event_type)
            .execute(&self.pool)
            .await?;
        self.tried().clear();
        tracing::info!(subscription = self.subscription, event_type, "circuit breaker closed");
        self.changed.notify_one();
        Ok(())
    }

    /// Notes that a message of a key failed.
    pub(crate) fn has_tried(&self, key: KeyHash) {
        self.tried().insert(key);
    }

    /// Returns the keys whose messages failed.
    pub(crate) fn all_tried(&self) -> HashSet<KeyHash> {
        self.tried().clone()
    }

    /// Forgets which keys were tried: there is no other one.
    pub(crate) fn begin_anew(&self) {
        self.tried().clear();
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<KeyHash>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
