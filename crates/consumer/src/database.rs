//! Distinguishes an unavailable database from a faulty message, and waits for the database.

use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::status::{Status, StatusGuard};

/// The first wait; it doubles up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Statement limit: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(5);

/// The subscription's database, as seen by its lanes.
pub(crate) struct Database {
    pool: PgPool,
    subscription: String,
    instance: String,
    status: Status,
    shutdown: CancellationToken,
    /// The last probe that succeeded. Held by the lane that probes, so that the others wait for it.
    last: Mutex<Option<Probe>>,
}

/// Result of a probe: whether the database caused a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProbeResult {
    /// A write succeeds at once: the database is available, so the message is at fault.
    Sound,
    /// Writes failed, and succeed again.
    Recovered,
    /// Shutdown came first.
    Shutdown,
}

#[derive(Clone, Copy)]
struct Probe {
    succeeded: Instant,
    found: ProbeResult,
}

impl Database {
    pub(crate) fn new(
        pool: PgPool,
        subscription: String,
        instance: String,
        status: Status,
        shutdown: CancellationToken,
    ) -> Self {
        Self { pool, subscription, instance, status, shutdown, last: Mutex::default() }
    }

    /// Repeats a write with growing waits until it succeeds, and reports the failure in the status
    /// meanwhile. `failed` is the time of the failure: the result of another lane's later probe is
    /// used.
    pub(crate) async fn probe(&self, failed: Instant) -> ProbeResult {
        let probing = self.probe_in_turn(failed);
        self.shutdown.run_until_cancelled(probing).await.unwrap_or(ProbeResult::Shutdown)
    }

    async fn probe_in_turn(&self, failed: Instant) -> ProbeResult {
        let mut last = self.last.lock().await;
        if let Some(probe) = last.filter(|probe| probe.succeeded > failed) {
            return probe.found;
        }
        let (mut waiting, mut wait) = (None::<StatusGuard>, FIRST);
        while let Err(error) = self.write().await {
            let why = error.to_string();
            if waiting.as_ref().is_none_or(|it| it.why() != why) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    subscription = self.subscription,
                    "database unavailable, retrying"
                );
                // Set the new reason before dropping the old one, or the status would be healthy in
                // between.
                waiting = Some(self.status.wait(why));
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
        let found = if waiting.is_some() { ProbeResult::Recovered } else { ProbeResult::Sound };
        if found == ProbeResult::Recovered {
            tracing::info!(subscription = self.subscription, "database available");
        }
        *last = Some(Probe { succeeded: Instant::now(), found });
        found
    }

    async fn write(&self) -> sqlx::Result<()> {
        let written = sqlx::query(
            "insert into instance (subscription, instance) values ($1, $2)
             on conflict (subscription, instance) do update set seen_at = clock_timestamp()",
        )
        .bind(&self.subscription)
        .bind(&self.instance)
        .execute(&self.pool);
        match pg::within(STATEMENT, written).await {
            Ok(_) => Ok(()),
            Err(error) => Err(pg::why_no_connection(&self.pool, error, STATEMENT).await),
        }
    }
}
