//! One attempt: a transaction with the inbox rows of some messages and all that their handlers do. It commits as a whole.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use kafka::Record;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use telemetry::query_span;
use tracing::{Instrument, Span};

use crate::failure::Failure;
use crate::faults::Faults;
use crate::history;
use crate::inbox::{Admission, Candidate, admit};
use crate::instruments::Instruments;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::replay::Replay;
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

/// How long a statement waits for a lock. One that is held for longer is a conflict, and its messages wait aside.
const LOCK: Duration = Duration::from_secs(1);
/// How long it does for messages that met a conflict before: most likely it is still there, and others wait for their turn.
const LOCK_AGAIN: Duration = Duration::from_millis(250);

/// Returns the statements that begin the transaction of an attempt. A statement is cancelled before the handler's time is
/// over: so it is the database that says that it takes too long, and no handler is blamed.
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

/// Makes attempts. Knows nothing of Kafka: what comes with a request takes the same way.
pub(crate) struct Attempts {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) group: String,
    pub(crate) pool: PgPool,
    pub(crate) handler_timeout: Duration,
    pub(crate) instruments: Instruments,
    pub(crate) faults: Faults,
    pub(crate) commits: Commits,
    /// Called after each commit of an effect.
    pub(crate) on_commit: Arc<dyn Fn() + Send + Sync>,
}

/// What the transaction holds besides inbox and effects.
#[derive(Default)]
pub(crate) struct Bookkeeping<'a> {
    /// Records of which attempts are noted: their rows go if this one succeeds.
    pub(crate) noted: Vec<&'a Record>,
    /// The replay that the one message is.
    pub(crate) replay: Option<&'a Replay>,
    /// `true` if a message met a conflict in an earlier attempt.
    pub(crate) met_conflict: bool,
}

impl Attempts {
    /// Applies messages in their order in one transaction. Returns what each came to, or fails with none applied.
    pub(crate) async fn make(
        &self,
        messages: &[&Message],
        bookkeeping: Bookkeeping<'_>,
    ) -> Result<Vec<Outcome>, Failure> {
        let began = Instant::now();
        let caught = AssertUnwindSafe(self.transaction(messages, bookkeeping)).catch_unwind();
        // Above all limits of the parts: a connection that died without a word must not hold a lane.
        let outcomes = match tokio::time::timeout(self.handler_timeout * 2, caught).await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(panic)) => Err(Failure::transient(Panicked(panic_message(panic.as_ref())))),
            Err(elapsed) => Err(Failure::unavailable(elapsed)),
        };
        self.instruments.attempted(began.elapsed());
        if outcomes.is_ok() && messages.len() > 1 {
            self.instruments.batch(messages.len());
        }
        outcomes
    }

    async fn transaction(
        &self,
        messages: &[&Message],
        bookkeeping: Bookkeeping<'_>,
    ) -> Result<Vec<Outcome>, Failure> {
        let (mut tx, admissions) = self
            .admit(messages, bookkeeping.met_conflict)
            .instrument(query_span("insert inbox"))
            .await
            .map_err(Failure::own)?;
        self.handle(&mut tx, messages, &admissions).await?;
        let outcomes = admissions.iter().map(|admission| match admission {
            Admission::Admitted { .. } => Outcome::Processed,
            Admission::Settled(outcome) => *outcome,
        });
        let outcomes: Vec<_> = outcomes.collect();
        if let (Some(replay), [outcome]) = (bookkeeping.replay, &*outcomes) {
            replay.settled(&mut tx, &self.group, *outcome).await.map_err(Failure::own)?;
        }
        if !bookkeeping.noted.is_empty() {
            let forgotten = history::forget(&mut *tx, &self.group, &bookkeeping.noted).await;
            forgotten.map_err(Failure::own)?;
        }
        self.commit(tx).await.map_err(Failure::own)?;
        let gaps = admissions.iter().filter(|it| matches!(it, Admission::Admitted { gap: true }));
        self.instruments.gaps(gaps.count());
        Ok(outcomes)
    }

    async fn admit(
        &self,
        messages: &[&Message],
        met_conflict: bool,
    ) -> sqlx::Result<(Transaction<'static, Postgres>, Vec<Admission>)> {
        let candidates = messages.iter().map(|message| Candidate {
            mode: message.mode(),
            envelope: message.envelope(),
            counted_by: self.subscription.counted_by(message.envelope()),
        });
        let candidates: Vec<_> = candidates.collect();
        let lock = if met_conflict { LOCK_AGAIN } else { LOCK };
        let mut tx = self.pool.begin_with(begin(lock, self.handler_timeout)).await?;
        let admissions = admit(&mut tx, &self.group, &candidates).await?;
        Ok((tx, admissions))
    }

    /// Calls the handlers of what was admitted: one call for each run of messages of one type.
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
            for run in admitted.chunk_by(|one, next| one.goes_with(next)) {
                for message in run {
                    sabotage::may_die_on(message.envelope().id.as_str());
                }
                let events: Vec<_> = run.iter().map(|message| message.event()).collect();
                run[0].handler().handle(&mut *tx, &events).await?;
            }
            Ok(())
        };
        let limit = self.handler_timeout;
        let elapsed = |_| Failure::transient(TookTooLong(limit));
        tokio::time::timeout(limit, handled).await.map_err(elapsed)?
    }

    async fn commit(&self, mut tx: Transaction<'_, Postgres>) -> sqlx::Result<()> {
        // A handler that swallowed an SQL error leaves a transaction whose commit rolls back without saying so;
        // any statement does say so.
        sqlx::query("select 1").execute(&mut *tx).await?;
        sabotage::may_die("consumer.before-commit");
        tx.commit().instrument(query_span("commit")).await?;
        sabotage::may_die("consumer.committed");
        self.commits.0.fetch_add(1, Ordering::Relaxed);
        (self.on_commit)();
        Ok(())
    }

    /// Returns how many attempts of the subscription were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.0.load(Ordering::Relaxed)
    }

    /// Counts and logs what a message came to, in its span.
    pub(crate) fn settled(&self, message: &Message, outcome: Outcome, retry: u32) {
        self.instruments.settled(outcome);
        if outcome == Outcome::Processed {
            message.succeeded();
        }
        let _entered: tracing::span::Entered<'_> = Span::enter(&message.event().span);
        tracing::info!(
            outcome = outcome.as_str(),
            event_type = message.envelope().event_type,
            subscription = self.group,
            retry,
            "settled message"
        );
    }
}
