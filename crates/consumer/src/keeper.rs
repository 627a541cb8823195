//! Reads the subscription's shared state (pause, breakers), and reports the state of this instance
//! to the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg::ErrorClass;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::breaker::Breakers;
use crate::consumer::Consumer;
use crate::instruments::Instruments;
use crate::memory_limit;
use crate::standing::{Holds, holds};
use crate::status::{Status, StatusGuard};
use crate::subscription::Subscription;

/// Interval of the reads of the rows, so that changes take effect within a second.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Heartbeat interval of an instance whose state does not change.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// Statement limit: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(5);
/// Time limit for deleting the instance's row at shutdown.
const LEAVE: Duration = Duration::from_millis(500);
/// Source of the problem in the status.
const FOUND_BY: &str = "standing";
/// Time limit for finding out why there is no connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Maximum length of a stored state.
const MAX_STATE: usize = 500;

/// Orders for a run.
#[derive(Clone)]
pub(crate) struct Orders {
    /// `None` until first read.
    pub(crate) holds: watch::Receiver<Option<Holds>>,
    pub(crate) breakers: Arc<Breakers>,
}

impl Orders {
    /// Waits until the orders have been read.
    pub(crate) async fn known(&self) {
        // The keeper outlives every run.
        _ = self.holds.clone().wait_for(Option::is_some).await;
    }

    /// Waits until breakers are open and nothing else stops the subscription.
    pub(crate) async fn to_be_probed(&self) {
        let probe = |holds: &Holds| holds.paused.is_none() && holds.open().next().is_some();
        _ = self.holds.clone().wait_for(|holds| holds.as_ref().is_some_and(probe)).await;
    }

    /// Returns whether an operator has paused the subscription.
    pub(crate) fn paused(&self) -> bool {
        self.holds.borrow().as_ref().is_some_and(|holds| holds.paused.is_some())
    }

    /// Returns whether consumption has to stop.
    pub(crate) fn stop(&self) -> bool {
        self.holds.borrow().as_ref().is_some_and(Holds::stop)
    }
}

/// State that an instance reports.
#[derive(PartialEq)]
struct Health {
    state: String,
    near_memory_limit: bool,
}

struct ReportedHealth {
    health: Health,
    at: Instant,
}

pub(crate) struct Keeper {
    pool: PgPool,
    subscription: Arc<Subscription>,
    group: String,
    instance: String,
    status: Status,
    instruments: Instruments,
    holds: watch::Sender<Option<Holds>>,
    breakers: Arc<Breakers>,
    changed: Arc<Notify>,
    /// The last report of this instance, and its time.
    last_report: Option<ReportedHealth>,
    /// Reports in the status that the database is unavailable, also while there is no message.
    waiting: Option<StatusGuard>,
}

impl Keeper {
    pub(crate) fn new(consumer: &Consumer) -> Self {
        let Consumer { subscription, housekeeping, status, instruments, .. } = consumer;
        let changed = Arc::<Notify>::default();
        Self {
            pool: housekeeping.clone(),
            subscription: Arc::clone(subscription),
            group: consumer.group(),
            instance: consumer.histories().instance().to_owned(),
            status: status.clone(),
            instruments: instruments.clone(),
            holds: watch::Sender::default(),
            breakers: Arc::new(Breakers::new(consumer, Arc::clone(&changed))),
            changed,
            last_report: None,
            waiting: None,
        }
    }

    pub(crate) fn orders(&self) -> Orders {
        Orders { holds: self.holds.subscribe(), breakers: Arc::clone(&self.breakers) }
    }

    /// Runs until `ended` is cancelled. While the database is unavailable, the last known orders
    /// stay in force.
    pub(crate) async fn run(mut self, ended: CancellationToken) {
        let changed = Arc::clone(&self.changed);
        loop {
            let keeping = async {
                match self.keep_up().await {
                    Ok(()) => {
                        self.waiting = None;
                        self.status.set_problems(FOUND_BY, Vec::new());
                    }
                    Err(error) => self.show(error).await,
                }
            };
            if ended.run_until_cancelled(keeping).await.is_none() {
                break;
            }
            tokio::select! {
                () = ended.cancelled() => break,
                () = changed.notified() => {}
                () = tokio::time::sleep(READ_EVERY) => {}
            }
        }
        self.leave().await;
    }

    /// Reports in the status why the rows can't be read or written. A refusal of the database
    /// affects every message.
    async fn show(&mut self, error: sqlx::Error) {
        let error = pg::why_no_connection(&self.pool, error, CONNECT).await;
        let why = error.to_string();
        let class = pg::classify(&error);
        let refuses = matches!(class, ErrorClass::Unavailable | ErrorClass::Denied)
            && !matches!(error, sqlx::Error::PoolTimedOut);
        let is_news = if refuses {
            let is_news = self.waiting.as_ref().is_none_or(|it| it.why() != why);
            if is_news {
                // Set the new reason before dropping the old one, or the status would be healthy in
                // between.
                self.waiting = Some(self.status.wait(why));
            }
            is_news
        } else {
            let problem = format!("whether it is paused is not known: {why}");
            self.status.set_problems(FOUND_BY, vec![problem])
        };
        if is_news {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                group = self.group,
                "pause and circuit breakers not read, retrying"
            );
        }
    }

    async fn keep_up(&mut self) -> sqlx::Result<()> {
        // Taken before the rows are read, because a later success may be newer than the counts.
        let succeeded = self.subscription.take_succeeded();
        let read = pg::within(STATEMENT, self.read(&succeeded)).await;
        let holds = read.inspect_err(|_| self.subscription.put_succeeded(&succeeded))?;
        if holds.breakers.is_empty() {
            self.breakers.forget_tried();
        }
        self.status.hold_by(&holds);
        self.instruments.breakers_open(holds.open().count());
        self.instruments.paused(holds.paused.is_some());
        self.holds.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&holds);
            *known = Some(holds);
            is_new
        });
        pg::within(STATEMENT, self.report()).await
    }

    /// Reads the shared state. Letters that precede a success of their type no longer count.
    /// Breakers of types that only another release handles do not stop this one.
    async fn read(&self, succeeded: &BTreeMap<&'static str, Instant>) -> sqlx::Result<Holds> {
        let mut holds = holds(&self.pool, &self.group).await?;
        let handled = self.subscription.event_types();
        holds.breakers.retain(|it| self.breakers.is_on() && handled.contains(&*it.event_type));
        let counting = |event_type: &str| {
            holds.breakers.iter().any(|it| !it.is_open() && it.event_type == event_type)
        };
        let ages: Vec<_> =
            succeeded.iter().filter(|(event_type, _)| counting(event_type)).collect();
        if !ages.is_empty() {
            self.breakers.reset(&ages).await?;
        }
        Ok(holds)
    }

    /// Reports the state of this instance, if it has changed or a heartbeat is due.
    async fn report(&mut self) -> sqlx::Result<()> {
        let mut state = self.status.state().to_string();
        state.truncate(state.floor_char_boundary(MAX_STATE));
        // Postgres stores no NUL in a text.
        state = state.replace('\0', "\u{fffd}");
        let health = Health { state, near_memory_limit: memory_limit::is_near() };
        let is_known =
            |report: &ReportedHealth| report.health == health && report.at.elapsed() < SEEN_EVERY;
        if self.last_report.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        sqlx::query(
            "insert into instance (subscription, instance, state, near_memory_limit)
             values ($1, $2, $3, $4)
             on conflict (subscription, instance) do update
                 set state = excluded.state, near_memory_limit = excluded.near_memory_limit,
                     seen_at = clock_timestamp()",
        )
        .bind(&self.group)
        .bind(&self.instance)
        .bind(&health.state)
        .bind(health.near_memory_limit)
        .execute(&self.pool)
        .await?;
        self.last_report = Some(ReportedHealth { health, at: Instant::now() });
        Ok(())
    }

    async fn leave(&self) {
        if self.waiting.is_some() {
            return;
        }
        let left = sqlx::query("delete from instance where subscription = $1 and instance = $2")
            .bind(&self.group)
            .bind(&self.instance)
            .execute(&self.pool);
        if let Err(error) = pg::within(LEAVE, left).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, group = self.group, "instance row not removed");
        }
    }
}
