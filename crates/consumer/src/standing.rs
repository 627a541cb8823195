//! The shared state of a subscription's instances, as rows that each instance applies within a
//! second: an operator's pause, open circuit breakers, and the instances.

use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;

/// An operator's pause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, sqlx::FromRow)]
#[non_exhaustive]
pub struct Pause {
    /// Name of the operator.
    #[serde(rename = "by")]
    pub paused_by: String,
    /// The reason that was given.
    pub why: String,
    /// Start of the pause, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// A circuit breaker: counts messages of one type that used up their retries for the same reason,
/// without a success of the type in between. While it is open, the subscription is stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, sqlx::FromRow)]
#[non_exhaustive]
pub struct Breaker {
    /// Type of the events.
    pub event_type: String,
    /// Identifies the reason, ignoring ids and numbers.
    pub fingerprint: String,
    /// Error of the first of the messages.
    pub reason: String,
    /// Number of messages that became dead letters.
    pub letters: i32,
    /// Time of the last dead-lettering, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
    /// Time at which it opened, UTC. `None` while it is closed and only counts.
    #[serde(with = "time::serde::rfc3339::option")]
    pub opened_at: Option<OffsetDateTime>,
}

impl Breaker {
    /// Returns whether it stops the subscription.
    pub fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }
}

/// An instance of a subscription: a process that consumes, or did at its last heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, sqlx::FromRow)]
#[non_exhaustive]
pub struct Instance {
    /// Id of the process; new at each start.
    pub id: String,
    /// [`State`](crate::State) of the subscription as text; begins with `gone` if the last
    /// heartbeat is older than 15 s.
    pub state: String,
    /// Start of the process, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Last heartbeat, UTC. A running instance sends one at least every 5 s.
    #[serde(with = "time::serde::rfc3339")]
    pub seen_at: OffsetDateTime,
}

/// Shared state of a subscription's instances.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// The pause, if any.
    pub paused: Option<Pause>,
    /// Open and counting breakers, by type and fingerprint.
    pub breakers: Vec<Breaker>,
    /// Instances, the longest running first.
    pub instances: Vec<Instance>,
}

/// Returns the shared state of a consumer group.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn standing(pool: &PgPool, group: &str) -> sqlx::Result<Standing> {
    let instances = sqlx::query_as(
        "select instance as id, started_at, seen_at,
                case when seen_at < clock_timestamp() - interval '15 seconds'
                     then 'gone; it was ' || state else state end as state
         from instance
         where subscription = $1 order by started_at, instance",
    )
    .bind(group)
    .fetch_all(pool)
    .await?;
    let Holds { paused, breakers } = holds(pool, group).await?;
    Ok(Standing { paused, breakers, instances })
}

/// Pauses a consumer group on all its instances within a second. They drop the messages in memory
/// and read them again later. `by` is the operator's name. An existing pause gets the new reason.
///
/// # Errors
/// Fails if the database is unavailable, or a text can't be stored.
pub async fn pause(pool: &PgPool, group: &str, by: &str, why: &str) -> sqlx::Result<()> {
    sqlx::query(
        "insert into pause as it (subscription, paused_by, why) values ($1, $2, $3)
         on conflict (subscription) do update
             set paused_by = excluded.paused_by, why = excluded.why, since = clock_timestamp()",
    )
    .bind(group)
    .bind(by)
    .bind(why)
    .execute(pool)
    .await?;
    Ok(())
}

/// Resumes a consumer group: ends its pause and closes its breakers. Returns whether there was one.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn resume(pool: &PgPool, group: &str) -> sqlx::Result<bool> {
    let ended: i64 = sqlx::query_scalar(
        "with pauses as (delete from pause where subscription = $1 returning 1),
              breakers as (delete from breaker where subscription = $1 returning 1)
         select (select count(*) from pauses) + (select count(*) from breakers)",
    )
    .bind(group)
    .fetch_one(pool)
    .await?;
    Ok(ended > 0)
}

/// Reasons to stop a subscription.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Holds {
    pub(crate) paused: Option<Pause>,
    pub(crate) breakers: Vec<Breaker>,
}

impl Holds {
    /// Returns whether consumption has to stop.
    pub(crate) fn stop(&self) -> bool {
        self.paused.is_some() || self.open().next().is_some()
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &Breaker> {
        self.breakers.iter().filter(|breaker| breaker.is_open())
    }
}

pub(crate) async fn holds(pool: &PgPool, group: &str) -> sqlx::Result<Holds> {
    let paused = sqlx::query_as("select paused_by, why, since from pause where subscription = $1")
        .bind(group)
        .fetch_optional(pool)
        .await?;
    let breakers = sqlx::query_as(
        "select event_type, fingerprint, reason, letters, last_at, opened_at from breaker
         where subscription = $1 order by opened_at is null, event_type, fingerprint limit 200",
    )
    .bind(group)
    .fetch_all(pool)
    .await?;
    Ok(Holds { paused, breakers })
}
