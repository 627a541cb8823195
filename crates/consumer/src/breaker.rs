//! The circuit breaker: a defect must not turn all messages of a topic into dead letters.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::Notify;

use crate::consumer::Consumer;
use crate::failure::Failure;
use crate::message::{KeyHash, Taken};

/// Statement limit: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(5);
/// Maximum length of a stored reason.
const MAX_REASON: usize = 500;

/// The circuit breakers of a subscription, one for each event type and kind of reason. Only
/// messages that used up their retries count, because a permanent failure says nothing about other
/// messages. A success of the type resets the count.
pub(crate) struct Breakers {
    pool: PgPool,
    subscription: String,
    instance: String,
    /// Event types that the subscription handles.
    event_types: Vec<&'static str>,
    /// Number of consecutive dead letters that open a breaker; 0 disables breakers.
    letters: u32,
    /// Interval between probes while a breaker is open.
    probe_every: Duration,
    /// Wakes the task that reads the standing after a change.
    changed: Arc<Notify>,
    /// Keys whose messages have failed since the first letter; a probe prefers other keys.
    tried: Mutex<HashSet<KeyHash>>,
}

/// A breaker after it has counted.
#[derive(sqlx::FromRow)]
struct Count {
    open: bool,
    letters: i32,
    /// The breaker was open, and no message was left to probe.
    half_open: bool,
}

/// Returned by [`Breakers::count`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CountResult {
    /// The message becomes a dead letter.
    Letter,
    /// The breaker is open: the message waits until it is closed.
    Open,
}

impl Breakers {
    /// Creates the breakers of a consumer. `changed` wakes the task that reads the standing.
    pub(crate) fn new(consumer: &Consumer, changed: Arc<Notify>) -> Self {
        Self {
            pool: consumer.housekeeping.clone(),
            subscription: consumer.group(),
            instance: consumer.histories().instance().to_owned(),
            event_types: consumer.event_types().into_iter().collect(),
            letters: consumer.options.breaker_letters,
            probe_every: consumer.options.breaker_probe,
            changed,
            tried: Mutex::default(),
        }
    }

    /// Returns `false` if breakers are disabled.
    pub(crate) fn is_on(&self) -> bool {
        self.letters > 0
    }

    /// Counts a message whose retries are used up, before it becomes a dead letter. If the process
    /// dies in between, the message is counted twice, and the breaker opens one letter early.
    pub(crate) async fn count(
        &self,
        taken: &Taken,
        failure: &Failure,
    ) -> sqlx::Result<CountResult> {
        let Some(envelope) = taken.envelope().filter(|_| self.is_on()) else {
            return Ok(CountResult::Letter);
        };
        self.note_tried(taken.key_hash());
        let event_type = &*envelope.event_type;
        let mut reason = failure.reason().message;
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let counted = sqlx::query_as(
            "insert into breaker as it (subscription, event_type, fingerprint, reason, opened_at)
             values ($1, $2, $3, $4, case when $5 <= 1 then clock_timestamp() end)
             on conflict (subscription, event_type, fingerprint) do update
                 set letters = it.letters + case when it.half_open then 0 else 1 end, last_at = clock_timestamp(),
                     letter_times = it.letter_times || clock_timestamp(),
                     opened_at = case when it.half_open or it.letters + 1 >= $5 then clock_timestamp() end
                 where it.opened_at is null
             returning opened_at is not null as open, letters, half_open",
        )
        .bind(&self.subscription)
        .bind(event_type)
        .bind(failure.fingerprint())
        .bind(&reason)
        .bind(i32::try_from(self.letters).unwrap_or(i32::MAX))
        .fetch_optional(&self.pool);
        let Some(Count { open, letters, half_open }) = pg::within(STATEMENT, counted).await? else {
            return Ok(CountResult::Open);
        };
        if open {
            tracing::error!(
                subscription = self.subscription,
                event_type,
                reason,
                letters,
                "circuit breaker open, nothing is consumed"
            );
            self.changed.notify_one();
        }
        Ok(if half_open { CountResult::Open } else { CountResult::Letter })
    }

    /// Removes letters from the count that precede the last success of their type.
    pub(crate) async fn reset(&self, succeeded: &[(&&'static str, &Instant)]) -> sqlx::Result<()> {
        let (types, ages): (Vec<&str>, Vec<f64>) =
            succeeded.iter().map(|(it, at)| (**it, at.elapsed().as_secs_f64())).unzip();
        sqlx::query(
            "with counted as (
                 select breaker.event_type, fingerprint, array(
                     select at from unnest(letter_times) at
                     where at > clock_timestamp() - make_interval(secs => age)
                 ) as after
                 from breaker join unnest($2::text[], $3::float8[]) success (event_type, age) using (event_type)
                 where subscription = $1 and opened_at is null
                 for update of breaker
             ), gone as (
                 delete from breaker using counted
                 where breaker.subscription = $1 and breaker.event_type = counted.event_type
                   and breaker.fingerprint = counted.fingerprint and cardinality(after) = 0
             )
             update breaker set letter_times = after, letters = cardinality(after)
             from counted
             where breaker.subscription = $1 and breaker.event_type = counted.event_type
               and breaker.fingerprint = counted.fingerprint and cardinality(after) > 0",
        )
        .bind(&self.subscription)
        .bind(types)
        .bind(ages)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Claims the next probe for this instance, and returns the event type to probe. Returns `None`
    /// if no probe is due; a probe is also due if other instances found no message of the type in
    /// their partitions.
    pub(crate) async fn claim_probe(&self) -> sqlx::Result<Option<String>> {
        let claimed = sqlx::query_scalar(
            "with due as (
                 select event_type, fingerprint,
                        coalesce(probed_at, opened_at) < clock_timestamp() - make_interval(secs => $2) as is_time
                 from breaker where subscription = $1 and opened_at is not null and event_type = any ($4)
                 order by coalesce(probed_at, opened_at) for update skip locked
             ), mine as (
                 select due.* from due join breaker using (event_type, fingerprint)
                 where subscription = $1 and (is_time or found_none and $3 <> all (asked)) limit 1
             )
             update breaker set
                 probed_at = case when is_time then clock_timestamp() else probed_at end,
                 asked = case when is_time then array[$3] else asked || $3 end,
                 found_none = false
             from mine
             where breaker.subscription = $1 and breaker.event_type = mine.event_type
               and breaker.fingerprint = mine.fingerprint
             returning breaker.event_type",
        )
        .bind(&self.subscription)
        .bind(self.probe_every.as_secs_f64())
        .bind(&self.instance)
        .bind(&self.event_types)
        .fetch_optional(&self.pool);
        pg::within(STATEMENT, claimed).await
    }

    /// Passes the probe to another instance, since this one has no message of the type. If no
    /// instance has one, the subscription resumes, and the next failure opens the breaker again
    /// without a dead letter.
    pub(crate) async fn found_none(&self, event_type: &str) -> sqlx::Result<()> {
        let passed_on = sqlx::query(
            "with others as (
                 select count(*) as there from instance
                 where subscription = $1 and instance <> all (select unnest(asked) from breaker
                     where subscription = $1 and event_type = $2 and opened_at is not null)
                   and seen_at > clock_timestamp() - interval '15 seconds'
             )
             update breaker set found_none = true, half_open = there = 0,
                 opened_at = case when there > 0 then opened_at end
             from others
             where subscription = $1 and event_type = $2 and opened_at is not null and $3 = any (asked)",
        )
        .bind(&self.subscription)
        .bind(event_type)
        .bind(&self.instance)
        .execute(&self.pool);
        pg::within(STATEMENT, passed_on).await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Closes the breakers of a type after a message of the type was processed.
    pub(crate) async fn close(&self, event_type: &str) -> sqlx::Result<()> {
        let closed = sqlx::query("delete from breaker where subscription = $1 and event_type = $2")
            .bind(&self.subscription)
            .bind(event_type)
            .execute(&self.pool);
        pg::within(STATEMENT, closed).await?;
        self.forget_tried();
        tracing::info!(subscription = self.subscription, event_type, "circuit breaker closed");
        self.changed.notify_one();
        Ok(())
    }

    /// Notes that a message of a key failed.
    pub(crate) fn note_tried(&self, key: KeyHash) {
        self.tried().insert(key);
    }

    /// Returns the keys whose messages failed.
    pub(crate) fn all_tried(&self) -> HashSet<KeyHash> {
        self.tried().clone()
    }

    /// Forgets which keys were tried.
    pub(crate) fn forget_tried(&self) {
        self.tried().clear();
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<KeyHash>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
