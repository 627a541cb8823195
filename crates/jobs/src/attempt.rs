//! One attempt at a job, and the recording of its result.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use pg::ErrorClass;
use telemetry::{FlowSteps, query_span};
use tokio::task::JoinError;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, field};

use crate::failure::Failure;
use crate::handler::{Context, Kind, Task};
use crate::instruments::Instruments;
use crate::leases::Lease;
use crate::queue::{Claimed, Disposition, Ended, Queue};
use crate::removals::Removals;

/// Time limit of a transaction that records a result: a connection can be lost silently. Longer
/// than the pool's time limit of a statement, which begins later, so that a slow hook is reported
/// as what it is.
const TRANSACTION: Duration = Duration::from_secs(20);
/// The wait before such a transaction is retried.
const BACKOFF: Duration = Duration::from_millis(500);

/// The wait after an uncounted attempt, and how long attempts may stay uncounted.
const POSTPONED: Duration = Duration::from_secs(5);
const POSTPONED_FOR: Duration = Duration::from_mins(15);

/// Failures not returned by a handler.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the payload is not a valid {kind}")]
    Unreadable { kind: &'static str, source: serde_json::Error },
    #[error("the job took longer than {0:?}")]
    TookTooLong(Duration),
    #[error("the job panicked: {0}")]
    Panicked(String),
    #[error("all attempts are used up; the last one ended without a result")]
    HadAllAttempts,
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Why a result was not recorded: a hook failed, or the table could not be written.
#[derive(Debug, thiserror::Error)]
enum NotRecorded {
    #[error("the result of the job could not be recorded")]
    Database(#[from] sqlx::Error),
    #[error("the hook panicked")]
    Panicked(#[from] JoinError),
}

pub(crate) struct Attempt {
    pub(crate) queue: Queue,
    pub(crate) removals: Removals,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) steps: FlowSteps,
    pub(crate) kind: Kind,
    pub(crate) job: Claimed,
}

/// A started attempt, whose payload was decoded or can't be.
struct StartedAttempt {
    attempt: Attempt,
    context: Context,
    task: Option<Arc<dyn Task>>,
}

impl Attempt {
    /// Runs the job and records the result, unless another worker has taken the job meanwhile.
    pub(crate) async fn make(self, lease: Lease) {
        let span = self.steps.span(|| self.span());
        async {
            let context = self.job.context();
            let (task, refused) = match self.decode() {
                Ok(task) => {
                    let beyond = self.kind.is_beyond(context.attempt);
                    (Some(task), beyond.then_some(Trouble::HadAllAttempts))
                }
                Err(trouble) => (None, Some(trouble)),
            };
            let begun = Arc::new(StartedAttempt { attempt: self, context, task });
            match refused {
                Some(trouble) => begun.has_failed(Failure::permanent(trouble)).await,
                None => begun.run(&lease).await,
            }
        }
        .instrument(span)
        .await;
    }

    fn span(&self) -> Span {
        let span = tracing::info_span!(
            "run",
            otel.name = format!("run {}", self.kind.name),
            otel.kind = "consumer",
            otel.status_code = field::Empty,
            job.id = %self.job.id,
            job.kind = self.kind.name,
            job.attempt = self.job.attempt(),
            correlation_id = self.job.correlation_id(),
            subject = self.job.subject(),
            error.r#type = field::Empty,
            outcome = field::Empty,
            error = field::Empty,
        );
        if let Some(asked_for_in) = self.job.asked_for_in() {
            asked_for_in.set_parent(&span);
        }
        span
    }

    fn decode(&self) -> Result<Arc<dyn Task>, Trouble> {
        let kind = self.kind.name;
        match catch_unwind(AssertUnwindSafe(|| self.kind.decode(self.job.payload.get()))) {
            Ok(task) => task.map_err(|source| Trouble::Unreadable { kind, source }),
            Err(panic) => Err(Trouble::Panicked(panic_message(panic.as_ref()))),
        }
    }
}

impl StartedAttempt {
    async fn run(self: &Arc<Self>, lease: &Lease) {
        let Some(task) = &self.task else { return };
        let (kind, began) = (&self.attempt.kind, Instant::now());
        let caught = AssertUnwindSafe(task.run(&self.context)).catch_unwind();
        let in_time = timeout(kind.time_limit, caught);
        let Some(ended) = lease.lost.run_until_cancelled(in_time).await else {
            tracing::warn!("job lease lost, leaving the job to another worker");
            return;
        };
        self.attempt.instruments.ran(kind.name, began.elapsed());
        match ended {
            Ok(Ok(Ok(()))) => self.is_done(lease).await,
            Ok(Ok(Err(failure))) => self.has_failed(failure).await,
            Ok(Err(panic)) => {
                self.has_failed(Trouble::Panicked(panic_message(panic.as_ref())).into()).await;
            }
            Err(_) => self.has_failed(Trouble::TookTooLong(kind.time_limit).into()).await,
        }
    }

    async fn is_done(self: &Arc<Self>, lease: &Lease) {
        let Attempt { removals, kind, job, .. } = &self.attempt;
        if !kind.has_success_hook() {
            lease.give_up_slot();
            if removals.remove(job.fence()).await {
                return succeeded();
            }
            lease.take_slot();
        }
        match persist(|| Arc::clone(self).remove()).await {
            Ok(Ended::Recorded) => succeeded(),
            Ok(Ended::Restarted) => restarted(),
            Ok(Ended::Late) => late(),
            Err(not_recorded) => self.has_failed(not_recorded.into()).await,
        }
    }

    async fn has_failed(self: &Arc<Self>, failure: Failure) {
        let Attempt { kind, instruments, .. } = &self.attempt;
        let disposition = if let Some(wait) = failure.deferred_for() {
            Disposition::Defer(wait)
        } else if self.is_blameless(&failure) {
            Disposition::Postpone(POSTPONED)
        } else {
            let wait = kind.wait_after(self.context.attempt).filter(|_| !failure.is_permanent());
            let wait = wait.map(|wait| wait.max(failure.not_before().unwrap_or_default()));
            instruments.failed(kind.name);
            wait.map_or(Disposition::Failed, Disposition::RetryAfter)
        };
        let disposition = Arc::new(disposition);
        log_failure(&failure, &disposition);
        let failure = Arc::new(failure);
        let record = |hook_failed: Option<String>| {
            let (failure, disposition) = (&failure, &disposition);
            persist(move || {
                let this = Arc::clone(self);
                this.record(Arc::clone(failure), Arc::clone(disposition), hook_failed.clone())
            })
        };
        let mut recorded = record(None).await;
        if let Err(error) = &recorded
            && self.calls_hook(&disposition)
        {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "failure hook of a job failed, recording the failure without it"
            );
            let why = telemetry::error_chain(error);
            recorded = record(Some(why)).await;
        }
        match (recorded, &*disposition) {
            (Ok(Ended::Recorded), Disposition::Failed) => instruments.dead(kind.name),
            (Ok(Ended::Recorded), _) => {}
            (Ok(Ended::Restarted), _) => restarted(),
            (Ok(Ended::Late), _) => late(),
            (Err(error), _) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "failure of a job not recorded, the job runs again when its lease expires"
                );
            }
        }
    }

    /// Returns whether the database failed or another transaction blocked the job. This is not the
    /// job's fault, unless it lasts while the queue itself can be written. Recording waits for the
    /// database, so the duration counts from then on.
    fn is_blameless(&self, failure: &Failure) -> bool {
        let fault = pg::classify_chain(failure.error());
        !failure.is_permanent()
            && matches!(
                fault,
                Some(ErrorClass::Unavailable | ErrorClass::Conflict | ErrorClass::Denied)
            )
            && self.attempt.job.postponed_for() < POSTPONED_FOR
    }

    /// Returns `true` if a hook is called in the transaction that records a failed attempt.
    fn calls_hook(&self, disposition: &Disposition) -> bool {
        match disposition {
            Disposition::Failed => true,
            Disposition::RetryAfter(_) => self.attempt.kind.has_attempted_hook,
            Disposition::Postpone(_) | Disposition::Defer(_) => false,
        }
    }

    /// Removes the job, then calls the hooks in the same transaction. The removal checks the fence
    /// and locks the row, so the hooks run only for an attempt that counts.
    async fn remove(self: Arc<Self>) -> sqlx::Result<Ended> {
        let Attempt { queue, job, .. } = &self.attempt;
        let mut tx = queue.pool.begin().await?;
        let ended = queue.remove(&mut tx, job).await?;
        if let Some(task) = &self.task
            && ended != Ended::Late
        {
            task.attempted(&mut tx, &self.context, None).await?;
            if ended == Ended::Recorded {
                task.done(&mut tx, &self.context).await?;
            }
        }
        tx.commit().await?;
        Ok(ended)
    }

    /// Records a failed attempt. The job is locked first, so that the hook of the attempt runs only
    /// if it counts, and before the job is changed, so that the hook may restart it.
    async fn record(
        self: Arc<Self>,
        failure: Arc<Failure>,
        disposition: Arc<Disposition>,
        hook_failed: Option<String>,
    ) -> sqlx::Result<Ended> {
        let Attempt { queue, kind, job, .. } = &self.attempt;
        let mut chain = failure.chain();
        if let Some(why) = &hook_failed {
            chain = format!("{chain}\nand recorded without its hook, which failed: {why}");
        }
        let mut tx = queue.pool.begin().await?;
        if let Some(task) = &self.task
            && kind.has_attempted_hook
            && hook_failed.is_none()
            && !kind.is_beyond(self.context.attempt)
            && self.calls_hook(&disposition)
            && queue.lock(&mut tx, job).await?
        {
            task.attempted(&mut tx, &self.context, Some(&*failure)).await?;
        }
        let ended = queue.fail(&mut tx, job, &chain, &disposition).await?;
        if let (Ended::Recorded, Disposition::Failed, Some(task), None) =
            (ended, &*disposition, &self.task, hook_failed)
        {
            task.failed(&mut tx, &self.context, &failure).await?;
        }
        tx.commit().await?;
        Ok(ended)
    }
}

fn succeeded() {
    Span::current().record("outcome", "succeeded");
    tracing::debug!("job completed");
}

fn late() {
    tracing::warn!("result of a job ignored, another worker has it or it was discarded");
}

fn restarted() {
    tracing::info!("job restarted during its attempt, running it again");
}

/// Repeats a transaction while the database is unavailable or blocked, for as long as an attempt
/// may be postponed: a hook that ends its own session or never returns must not occupy a slot for
/// ever. Runs in a separate task, because an attempt may be cancelled at any time, and sqlx leaves
/// a connection inside its transaction if cancelled while the transaction begins.
async fn persist<F>(transaction: impl Fn() -> F) -> Result<Ended, NotRecorded>
where
    F: Future<Output = sqlx::Result<Ended>> + Send + 'static,
{
    let began = tokio::time::Instant::now();
    loop {
        let mut task = tokio::spawn(transaction().instrument(query_span("settle job")));
        let ended = if let Ok(ended) = timeout(TRANSACTION, &mut task).await {
            ended?
        } else {
            // It would keep its connection, and the job locked against the next transaction. If it
            // was about to begin, the pool ends what it leaves open (`pg::PoolOptions`).
            task.abort();
            Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
        };
        match ended {
            Err(error) if is_worth_waiting(&error) && began.elapsed() < POSTPONED_FOR => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "database unavailable, retrying to record the result of a job"
                );
            }
            ended => return Ok(ended?),
        }
        sleep(BACKOFF).await;
    }
}

fn is_worth_waiting(error: &sqlx::Error) -> bool {
    matches!(
        pg::classify(error),
        ErrorClass::Unavailable | ErrorClass::Conflict | ErrorClass::Denied
    )
}

fn log_failure(failure: &Failure, disposition: &Disposition) {
    let error = failure.error() as &(dyn std::error::Error + 'static);
    let outcome = match disposition {
        Disposition::RetryAfter(_) => "retry",
        Disposition::Postpone(_) => "postponed",
        Disposition::Defer(_) => "deferred",
        Disposition::Failed => "failed",
    };
    let span = Span::current();
    span.record("outcome", outcome);
    if !matches!(disposition, Disposition::Defer(_)) {
        span.record("error.type", failure.exception());
        span.record("otel.status_code", "ERROR");
        span.record("error", error);
    }
    match disposition {
        Disposition::RetryAfter(wait) => {
            tracing::warn!(error, retry_in = ?wait, "job attempt failed");
        }
        Disposition::Postpone(wait) => tracing::warn!(
            error,
            retry_in = ?wait,
            "job attempt failed, not counted: the database was unavailable or busy"
        ),
        Disposition::Defer(wait) => {
            tracing::debug!(reason = error, retry_in = ?wait, "job deferred");
        }
        Disposition::Failed => tracing::error!(error, "job failed, waiting for an operator"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_result_that_is_never_answered_is_given_up_after_a_quarter_of_an_hour() {
        let (began, connection) = (tokio::time::Instant::now(), Arc::new(()));
        let unanswered = || {
            let held = Arc::clone(&connection);
            async move {
                let ended = std::future::pending::<sqlx::Result<Ended>>().await;
                drop(held);
                ended
            }
        };
        let given_up = timeout(2 * POSTPONED_FOR, persist(unanswered)).await;
        let error = given_up.expect("it is not given up").unwrap_err();
        assert!(matches!(error, NotRecorded::Database(sqlx::Error::Io(_))), "{error:?}");
        let took = began.elapsed();
        let expected = POSTPONED_FOR..=POSTPONED_FOR + TRANSACTION;
        assert!(expected.contains(&took), "{took:?}");
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&connection), 1, "no transaction goes on");
    }
}
