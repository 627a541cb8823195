//! One attempt: a transaction with the inbox rows of some messages and the effects of their
//! handlers.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use kafka::Record;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};
use telemetry::{FlowSteps, query_span};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::chain::Chain;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::history;
use crate::inbox::{Admission, Candidate, admit};
use crate::instruments::Instruments;
use crate::letters::{NotRunning, Replaying, settle};
use crate::message::Message;
use crate::outcome::Outcome;
use crate::subscription::Subscription;

/// The handler did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("the handler took longer than {0:?}")]
struct TookTooLong(Duration);

/// The handler panicked.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// How long the database may take to answer a statement that reads nothing.
const ANSWERS: Duration = Duration::from_secs(2);

/// Maximum wait for a lock. A longer wait is a conflict, and the messages are parked. It is shared
/// with the messages that are known to need a held lock: most likely another one needs the same
/// lock, and if many do, as all events of a tenant, their waits would leave lanes no time for
/// others.
const LOCK: Duration = Duration::from_secs(1);
/// The minimum, and the same for a message whose batch had a conflict. Most likely another message
/// of the batch needs the lock, and each of them waits for those before it.
const LOCK_ALONE: Duration = Duration::from_millis(50);
/// The same for messages with an earlier conflict alone: it most likely persists, and other
/// messages wait for their turn.
const LOCK_AGAIN: Duration = Duration::from_millis(250);

/// Returns the maximum wait for a lock. `conflicts` is `None` if no earlier attempt ended in a
/// conflict, otherwise the number of those at the message alone. `blocked` is the number of other
/// messages that are known to need a held lock.
fn lock_wait(conflicts: Option<u32>, blocked: u32) -> Duration {
    match conflicts {
        None => (LOCK / (blocked + 1)).max(LOCK_ALONE),
        Some(0) => LOCK_ALONE,
        Some(_) => LOCK_AGAIN,
    }
}

/// Returns the statements that begin the transaction of an attempt. The statement timeout is
/// shorter than the handler's time limit, so that a slow statement is reported by the database and
/// not blamed on the handler.
fn begin(lock: Duration, handler: Duration) -> AssertSqlSafe<String> {
    let statement = handler.mul_f64(0.9).as_millis().max(1);
    AssertSqlSafe(format!(
        "begin; set local lock_timeout = {}; set local statement_timeout = {statement}",
        lock.as_millis()
    ))
}

/// Counts the commits of a subscription. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits(Arc<AtomicU64>);

/// Executes attempts. Independent of Kafka: events from requests are handled the same way.
pub(crate) struct Attempts {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) group: String,
    pub(crate) pool: PgPool,
    /// A pool of the same database that handlers do not use.
    pub(crate) housekeeping: PgPool,
    pub(crate) handler_timeout: Duration,
    pub(crate) instruments: Instruments,
    pub(crate) faults: Faults,
    pub(crate) commits: Commits,
    pub(crate) steps: FlowSteps,
    /// Called after each commit of an effect.
    pub(crate) on_commit: Arc<dyn Fn() + Send + Sync>,
}

/// Contents of the transaction besides inbox and effects.
#[derive(Default)]
pub(crate) struct Bookkeeping<'a> {
    /// Records with rows of earlier attempts, which are deleted if this attempt succeeds.
    pub(crate) noted: Vec<&'a Record>,
    /// The dead letters of the messages, if this is a replay.
    pub(crate) replaying: Option<Replaying<'a>>,
    /// Number of attempts at the message alone that ended in a conflict, if any attempt did.
    pub(crate) conflicts: Option<u32>,
    /// Number of the subscription's messages that are known to need a held lock.
    pub(crate) blocked: u32,
}

impl Attempts {
    /// Applies messages in order in one transaction. Returns the outcome of each, or fails and
    /// applies none.
    pub(crate) async fn make(
        &self,
        messages: &[&Message],
        bookkeeping: Bookkeeping<'_>,
    ) -> Result<Vec<Outcome>, Failure> {
        self.make_in(messages, bookkeeping, &mut Chain::default()).await
    }

    /// Does the same in the next transaction of a chain. A failure ends the chain.
    pub(crate) async fn make_in(
        &self,
        messages: &[&Message],
        bookkeeping: Bookkeeping<'_>,
        chain: &mut Chain,
    ) -> Result<Vec<Outcome>, Failure> {
        let began = Instant::now();
        let outcomes = self.guarded(self.transaction(messages, bookkeeping, chain)).await;
        self.instruments.attempted(began.elapsed());
        if outcomes.is_ok() && messages.len() > 1 {
            self.instruments.batch(messages.len());
        }
        outcomes
    }

    /// Returns the outcomes that an attempt would have. The transaction is rolled back, and no hook
    /// is called and nothing is counted.
    pub(crate) async fn rehearse(&self, messages: &[&Message]) -> Result<Vec<Outcome>, Failure> {
        let rehearsing = async {
            let mut tx = self.begin(LOCK).await.map_err(Failure::own)?;
            let admissions = self.admit(&mut tx, messages).await.map_err(Failure::own)?;
            self.handle(&mut tx, messages, &admissions).await?;
            check(&mut tx).await?;
            Ok(outcomes(&admissions))
        };
        // The transaction is rolled back when it is dropped.
        self.guarded(rehearsing).await
    }

    /// Rehearses attempts at messages one after the other, until the first failure or until `holds`
    /// is cancelled.
    pub(crate) async fn rehearse_in_turn(
        &self,
        messages: &[&Message],
        holds: &CancellationToken,
    ) -> (Vec<Outcome>, Option<Failure>) {
        let mut tx = match self.begin(LOCK).await {
            Ok(tx) => tx,
            Err(error) => return (Vec::new(), Some(Failure::own(error))),
        };
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            if holds.is_cancelled() {
                break;
            }
            let message = std::slice::from_ref(message);
            let rehearsing = async {
                let admissions = self.admit(&mut tx, message).await.map_err(Failure::own)?;
                self.handle(&mut tx, message, &admissions).await?;
                check(&mut tx).await?;
                Ok(outcomes(&admissions))
            };
            match self.guarded(rehearsing).await {
                Ok(outcomes) => all.extend(outcomes),
                Err(failure) => return (all, Some(failure)),
            }
        }
        (all, None)
    }

    /// Bounds the time of an attempt, and turns a panic into a failure.
    fn guarded<T>(
        &self,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> impl Future<Output = Result<T, Failure>> {
        let caught = AssertUnwindSafe(attempt).catch_unwind();
        // Longer than the limits of all parts together: a silently lost connection must not block a
        // lane. (Not an async fn, which would store the attempt's future twice.)
        tokio::time::timeout(self.handler_timeout * 2 + ANSWERS, caught).map(|ended| match ended {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(panic)) => Err(Failure::transient(Panicked(panic_message(panic.as_ref())))),
            Err(elapsed) => Err(Failure::unavailable(elapsed)),
        })
    }

    async fn transaction(
        &self,
        messages: &[&Message],
        bookkeeping: Bookkeeping<'_>,
        chain: &mut Chain,
    ) -> Result<Vec<Outcome>, Failure> {
        if bookkeeping.conflicts.is_some() {
            // The transaction that waits has the longer time limit.
            chain.end();
        }
        let admitting = async {
            let mut tx = if let Some(begun) = chain.take() {
                begun
            } else {
                let begun =
                    self.begin(lock_wait(bookkeeping.conflicts, bookkeeping.blocked)).await?;
                chain.start();
                begun
            };
            let admissions = self.admit(&mut tx, messages).await?;
            Ok((tx, admissions))
        };
        let admitted = admitting.instrument(query_span("insert inbox")).await;
        let (mut tx, admissions) = admitted.map_err(Failure::own)?;
        self.handle(&mut tx, messages, &admissions).await?;
        let outcomes = outcomes(&admissions);
        if let Some(replaying) = &bookkeeping.replaying
            && !Box::pin(settle(&mut tx, replaying, &outcomes)).await.map_err(Failure::own)?
        {
            return Err(Failure::transient(NotRunning));
        }
        if !bookkeeping.noted.is_empty() {
            let forgotten = history::forget(&mut *tx, &self.group, &bookkeeping.noted).await;
            forgotten.map_err(Failure::own)?;
        }
        let next_lock = lock_wait(None, bookkeeping.blocked);
        self.commit(tx, next_lock, chain).await.map_err(Failure::own)?;
        let gaps = admissions.iter().filter(|it| matches!(it, Admission::Admitted { gap: true }));
        self.instruments.gaps(gaps.count());
        Ok(outcomes)
    }

    async fn begin(&self, lock: Duration) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.pool.begin_with(begin(lock, self.handler_timeout)).await
    }

    async fn admit(
        &self,
        tx: &mut PgConnection,
        messages: &[&Message],
    ) -> sqlx::Result<Vec<Admission>> {
        let candidates = messages.iter().map(|message| Candidate {
            mode: message.mode(),
            envelope: message.envelope(),
            counted_by: self.subscription.counted_by(message.envelope()),
        });
        let candidates: Vec<_> = candidates.collect();
        admit(tx, &self.group, &candidates).await
    }

    /// Calls the handlers of the admitted messages: one call for each run of messages of one type.
    async fn handle(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        messages: &[&Message],
        admissions: &[Admission],
    ) -> Result<(), Failure> {
        let admitted = messages.iter().zip(admissions);
        let admitted = admitted.filter(|(_, it)| matches!(it, Admission::Admitted { .. }));
        let admitted: Vec<&Message> = admitted.map(|(message, _)| *message).collect();
        if admitted.is_empty() {
            return Ok(());
        }
        let handled = async {
            let event_types = admitted.iter().map(|message| &*message.envelope().event_type);
            self.faults.strike(event_types).await?;
            for run in admitted.chunk_by(|one, next| one.has_same_handler(next)) {
                for message in run {
                    sabotage::may_die_on(message.envelope().id.as_str());
                }
                let events: Vec<_> = run.iter().map(|message| message.event()).collect();
                run[0].handler().handle(&mut *tx, &events).await?;
            }
            Ok(())
        };
        match tokio::time::timeout(self.handler_timeout, handled).await {
            Ok(handled) => handled,
            Err(_) => Err(self.took_too_long().await),
        }
    }

    /// Returns the failure of a handler that took too long. It may have waited for a database that
    /// does not answer at all, which does not end the statement either.
    async fn took_too_long(&self) -> Failure {
        let took_too_long = TookTooLong(self.handler_timeout);
        match pg::within(ANSWERS, sqlx::query("select 1").execute(&self.housekeeping)).await {
            Ok(_) => Failure::transient(took_too_long),
            Err(_) => Failure::unavailable(took_too_long),
        }
    }

    /// Commits, and begins the next transaction of the chain in the same round trip, which waits
    /// this long for a lock.
    async fn commit(
        &self,
        mut tx: Transaction<'static, Postgres>,
        next_lock: Duration,
        chain: &mut Chain,
    ) -> sqlx::Result<()> {
        sabotage::may_die("consumer.before-commit");
        // If a handler swallowed an SQL error, the commit silently rolls back; any other statement
        // fails. `and chain` fails if a handler has ended the transaction.
        let mut commit = "select 1; commit and chain".to_owned();
        let goes_on = chain.goes_on();
        if goes_on {
            // The chained transaction would have the isolation and access mode that the handler has
            // set.
            commit = format!("{commit}; commit; {}", begin(next_lock, self.handler_timeout).0);
        }
        let committing = sqlx::raw_sql(AssertSqlSafe(commit)).execute(&mut *tx);
        committing.instrument(query_span("commit")).await?;
        if goes_on {
            chain.put(tx);
        } else {
            // Rolls the chained transaction back together with the pool's own check of the
            // connection. `Transaction::commit` would take a round trip of its own.
            drop(tx);
        }
        sabotage::may_die("consumer.committed");
        self.commits.0.fetch_add(1, Ordering::Relaxed);
        (self.on_commit)();
        Ok(())
    }

    /// Returns how many attempts of the subscription were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.0.load(Ordering::Relaxed)
    }

    /// Counts and logs the outcome of a message, in its span.
    pub(crate) fn settled(&self, message: &Message, outcome: Outcome, retry: u32) {
        self.instruments.settled(outcome);
        if outcome == Outcome::Processed {
            message.succeeded();
        }
        let span = &message.event().span;
        span.record("outcome", outcome.as_str());
        let _entered: tracing::span::Entered<'_> = Span::enter(span);
        tracing::info!(
            outcome = outcome.as_str(),
            event_type = message.envelope().event_type,
            subscription = self.group,
            retry,
            "message settled"
        );
    }
}

fn outcomes(admissions: &[Admission]) -> Vec<Outcome> {
    let outcome = |admission: &Admission| match admission {
        Admission::Admitted { .. } => Outcome::Processed,
        Admission::Settled(outcome) => *outcome,
    };
    admissions.iter().map(outcome).collect()
}

/// Checks the deferred constraints, as a commit would. This also fails if a handler has swallowed
/// an SQL error.
async fn check(tx: &mut PgConnection) -> Result<(), Failure> {
    sqlx::query("set constraints all immediate").execute(&mut *tx).await?;
    sqlx::query("set constraints all deferred").execute(tx).await?;
    Ok(())
}
