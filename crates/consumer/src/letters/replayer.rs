//! Runs the replays of a subscription, one after the other, on one of its instances.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{FromRow, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::run::{Ended, Run};
use super::settling::{self, Lease};
use crate::attempt::Attempts;
use crate::consumer::Consumer;
use crate::database::Database;
use crate::history::Histories;
use crate::options::Options;

/// How soon a request to another instance is seen, and a lease that has run out.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a lease holds, in seconds, and how often it is renewed: an instance that was killed is replaced after the former.
const LEASE: f64 = 10.0;
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long renewing may take, so that there is time for another try.
const RENEW: Duration = Duration::from_secs(2);
/// How long what is under way may take at shutdown until its letters are given back. It is rolled back then.
const GRACE: Duration = Duration::from_secs(2);
/// How long nothing is claimed after the database failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// A connection can die without a word.
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

/// A replay of which this instance has the lease.
#[derive(FromRow)]
pub(super) struct Claimed {
    pub(super) id: Uuid,
    pub(super) fence: i64,
    pub(super) rehearsal: bool,
    pub(super) rate: Option<f64>,
    pub(super) ramp: bool,
    pub(super) stop_after: Option<i32>,
    /// The instance that had it before was killed for its memory, or lives: no letter is blamed.
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

    /// Runs until shutdown. What runs then is left to another instance, or to the next start.
    pub(crate) async fn run(self) {
        while !self.shutdown.is_cancelled() {
            match pg::within(STATEMENT, self.claim()).await {
                Ok(Some(claimed)) => {
                    Box::pin(self.carry_out(&claimed)).await;
                    continue;
                }
                Ok(None) => {}
                // The keeper shows that the database is unavailable.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "no replay claimed");
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
            // Another instance was faster: one runs at a time.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
            claimed => claimed,
        }
    }

    async fn carry_out(&self, claimed: &Claimed) {
        let (replay, group) = (claimed.id, &self.attempts.group);
        tracing::info!(%replay, group, rehearsal = claimed.rehearsal, "replay started");
        // Ends with the shutdown, with the lease, and with the work.
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

    async fn work(&self, claimed: &Claimed, holds: &CancellationToken) -> sqlx::Result<Ended> {
        if claimed.is_nobodys_fault {
            settling::unbegin(&self.pool, claimed.lease()).await?;
        }
        Box::pin(Run::new(self, claimed, holds).await?.run()).await
    }

    async fn put_down(&self, claimed: &Claimed, ended: &Ended) -> sqlx::Result<()> {
        let (pool, lease) = (&self.pool, claimed.lease());
        match ended {
            Ended::Done => settling::end(pool, lease).await,
            Ended::Paused(why) => settling::pause(pool, lease, why).await,
            Ended::Interrupted => settling::give_back(pool, lease).await,
        }
    }

    /// Gives letters back that are still under way some time after `holds` has ended, as after a shutdown: the process may be
    /// ended before they are done, for which they are not to blame. Whatever they come to is refused then.
    async fn give_back_in_time(&self, lease: Lease, holds: &CancellationToken) {
        holds.cancelled().await;
        tokio::time::sleep(GRACE).await;
        if let Err(error) = settling::give_back(&self.pool, lease).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, replay = %lease.replay, "letters in progress not released");
        }
    }

    /// Says that no process ended with what is begun, as soon as the database takes that: else letters would be blamed.
    async fn take_back(&self, lease: Lease) {
        loop {
            match settling::give_back(&self.pool, lease).await {
                Ok(()) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, replay = %lease.replay, "replay not given back yet");
                }
            }
            let waited = self.shutdown.run_until_cancelled(tokio::time::sleep(RENEW_EVERY));
            if waited.await.is_none() {
                return;
            }
        }
    }

    /// Renews the lease until `holds` ends, and ends that when it could not be.
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
                // What is written meanwhile is fenced.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, replay = %lease.replay, "lease not renewed");
                }
            }
        }
    }
}
