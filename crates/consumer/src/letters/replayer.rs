//! Runs the replays of a subscription sequentially, on one of its instances.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{FromRow, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::run::{Run, RunEnd};
use super::settling::{self, Lease};
use crate::attempt::Attempts;
use crate::consumer::Consumer;
use crate::database::Database;
use crate::history::Histories;
use crate::options::Options;

/// Interval of the polls of the table for requests to other instances and expired leases.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Duration of a lease, in seconds, and the interval of its renewal. A killed instance is replaced
/// when its lease expires.
const LEASE: f64 = 10.0;
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Time limit for renewing a lease, which leaves time for a second try.
const RENEW: Duration = Duration::from_secs(2);
/// How long current attempts may take at shutdown before they are rolled back and their letters
/// released.
const GRACE: Duration = Duration::from_secs(2);
/// Wait before the next claim after the database failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// Statement limit: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(5);

pub(crate) struct Replayer {
    pub(super) pool: PgPool,
    pub(super) attempts: Attempts,
    pub(super) options: Options,
    pub(super) kafka: kafka::Settings,
    pub(super) database: Database,
    pub(super) histories: Arc<Histories>,
    instance: String,
    requested: Arc<Notify>,
    shutdown: CancellationToken,
}

/// A replay leased by this instance.
#[derive(FromRow)]
pub(super) struct Claimed {
    pub(super) id: Uuid,
    pub(super) fence: i64,
    pub(super) rehearsal: bool,
    pub(super) rate: Option<f64>,
    pub(super) ramp: bool,
    pub(super) stop_after: Option<i32>,
    /// The previous instance was killed for its memory or is alive, so no letter is blamed.
    is_nobodys_fault: bool,
}

impl Claimed {
    pub(super) fn lease(&self) -> Lease {
        Lease { replay: self.id, fence: self.fence }
    }
}

impl Replayer {
    pub(crate) fn new(
        consumer: &Consumer,
        requested: Arc<Notify>,
        shutdown: CancellationToken,
    ) -> Self {
        let instance = consumer.histories().instance().to_owned();
        let (pool, status) = (consumer.housekeeping.clone(), consumer.status());
        let database = Database::new(
            pool.clone(),
            consumer.group(),
            instance.clone(),
            status,
            shutdown.clone(),
        );
        Self {
            pool,
            attempts: consumer.attempts(),
            options: consumer.options.clone(),
            kafka: consumer.kafka.clone(),
            database,
            histories: consumer.histories(),
            instance,
            requested,
            shutdown,
        }
    }

    /// Runs until shutdown. Another instance, or the next start, continues a running replay.
    pub(crate) async fn run(self) {
        while !self.shutdown.is_cancelled() {
            match pg::within(STATEMENT, self.claim()).await {
                Ok(Some(claimed)) => {
                    Box::pin(self.carry_out(&claimed)).await;
                    continue;
                }
                Ok(None) => {}
                // The keeper reports the unavailable database.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "replay not claimed, retrying");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = self.requested.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn claim(&self) -> sqlx::Result<Option<Claimed>> {
        let claimed = sqlx::query_as(
            "with next as (
                 select id, leased_by, leased_until from dead_letter_replay it
                 where subscription = $1
                   and (status = 'running' and leased_until < clock_timestamp()
                        or status = 'queued' and not exists (
                            select 1 from dead_letter_replay other
                            where other.subscription = $1 and other.status = 'running'))
                 order by status = 'running' desc, id limit 1 for update skip locked
             )
             update dead_letter_replay it
             set status = 'running', leased_by = $2, leased_until = clock_timestamp() + make_interval(secs => $3),
                 fence = fence + 1, started_at = coalesce(started_at, clock_timestamp()), note = null
             from next where it.id = next.id
             returning it.id, fence, rehearsal, rate, ramp, stop_after,
                 coalesce((select near_memory_limit or seen_at > next.leased_until from instance
                           where instance.subscription = $1 and instance.instance = next.leased_by), false)
                     as is_nobodys_fault",
        )
        .bind(&self.attempts.group)
        .bind(&self.instance)
        .bind(LEASE)
        .fetch_optional(&self.pool)
        .await;
        match claimed {
            // Another instance has claimed a replay: only one runs at a time.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
            claimed => claimed,
        }
    }

    async fn carry_out(&self, claimed: &Claimed) {
        let (replay, group) = (claimed.id, &self.attempts.group);
        tracing::info!(%replay, group, rehearsal = claimed.rehearsal, "replay started");
        // Cancelled by shutdown, by the loss of the lease, and at the end of the run.
        let holds = self.shutdown.child_token();
        let working = async {
            let ended = Box::pin(self.work(claimed, &holds)).await;
            holds.cancel();
            ended
        };
        let (done, lease) = (CancellationToken::new(), claimed.lease());
        let working = async {
            let ended = working.await;
            done.cancel();
            ended
        };
        let giving_back = done.run_until_cancelled(self.give_back_in_time(lease, &holds));
        let (ended, (), _) = tokio::join!(working, self.keep_lease(lease, &holds), giving_back);
        let result = match ended {
            Ok(ended) => self.put_down(claimed, &ended).await.map(|()| ended),
            Err(error) => Err(error),
        };
        match result {
            Ok(ended) => tracing::info!(%replay, group, ?ended, "replay run ended"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    %replay,
                    group,
                    "replay interrupted, it resumes later"
                );
                self.take_back(claimed.lease()).await;
                self.shutdown.run_until_cancelled(tokio::time::sleep(AFTER_ERROR)).await;
            }
        }
    }

    async fn work(&self, claimed: &Claimed, holds: &CancellationToken) -> sqlx::Result<RunEnd> {
        if claimed.is_nobodys_fault {
            settling::unbegin(&self.pool, claimed.lease()).await?;
        }
        Box::pin(Run::new(self, claimed, holds).await?.run()).await
    }

    async fn put_down(&self, claimed: &Claimed, ended: &RunEnd) -> sqlx::Result<()> {
        let (pool, lease) = (&self.pool, claimed.lease());
        match ended {
            RunEnd::Done => settling::end(pool, lease).await,
            RunEnd::Paused(why) => settling::pause(pool, lease, why).await,
            RunEnd::Interrupted => settling::give_back(pool, lease).await,
        }
    }

    /// Releases letters that are still being attempted some time after `holds` was cancelled, as at
    /// shutdown: the process may be killed before they are done, for which they must not be blamed.
    /// Late results of these letters are refused.
    async fn give_back_in_time(&self, lease: Lease, holds: &CancellationToken) {
        holds.cancelled().await;
        tokio::time::sleep(GRACE).await;
        if let Err(error) = settling::give_back(&self.pool, lease).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, replay = %lease.replay, "letters in progress not released");
        }
    }

    /// Records that the process did not crash during the started attempts, retrying until the
    /// database accepts it; otherwise letters would be blamed.
    async fn take_back(&self, lease: Lease) {
        loop {
            match settling::give_back(&self.pool, lease).await {
                Ok(()) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, replay = %lease.replay, "replay lease not released, retrying");
                }
            }
            let waited = self.shutdown.run_until_cancelled(tokio::time::sleep(RENEW_EVERY));
            if waited.await.is_none() {
                return;
            }
        }
    }

    /// Renews the lease until `holds` is cancelled, and cancels it if the renewal fails.
    async fn keep_lease(&self, lease: Lease, holds: &CancellationToken) {
        while holds.run_until_cancelled(tokio::time::sleep(RENEW_EVERY)).await.is_some() {
            let renewed = sqlx::query(
                "update dead_letter_replay set leased_until = clock_timestamp() + make_interval(secs => $3)
                 where id = $1 and fence = $2 and status = 'running'",
            )
            .bind(lease.replay)
            .bind(lease.fence)
            .bind(LEASE)
            .execute(&self.pool);
            match pg::within(RENEW, renewed).await {
                Ok(renewed) if renewed.rows_affected() == 0 => holds.cancel(),
                Ok(_) => {}
                // Writes after the loss of the lease are fenced.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, replay = %lease.replay, "lease not renewed");
                }
            }
        }
    }
}
