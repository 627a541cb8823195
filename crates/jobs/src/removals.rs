//! Removal of completed jobs whose handler has no hook: jobs that end while a statement is executed
//! share the next one, and with it a round trip and a commit. A job that ends alone is removed at
//! once.
//!
//! A shared statement waits for no row, so a job that another transaction has locked delays no
//! other. A job that it does not remove, for any reason, is left to its attempt, which records the
//! result in a separate transaction.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use telemetry::query_span;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::queue::{Fence, Queue};

/// How long a job waits for others to be removed. A statement can take long, or never be answered.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a statement waits for a connection.
const ACQUIRE: Duration = Duration::from_millis(500);
/// Time limit of a statement: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(10);

/// Removes completed jobs of a worker. Clones share the statements.
#[derive(Clone, Debug)]
pub(crate) struct Removals {
    queue: Queue,
    pending: Arc<Mutex<RemovalQueue>>,
}

/// The jobs that wait. At most one statement is executed at a time.
#[derive(Debug, Default)]
struct RemovalQueue {
    waiting: Vec<WaitingJob>,
    is_executing: bool,
}

#[derive(Debug)]
struct WaitingJob {
    job: Fence,
    /// Span of the attempt.
    span: Span,
    outcome: oneshot::Sender<bool>,
}

impl Removals {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue, pending: Arc::default() }
    }

    /// Removes a job, and returns `true` if that is committed. Otherwise the job may have been
    /// locked, restarted or discarded, may belong to another worker, or the database did not
    /// answer. A removal that was sent takes place although this future is dropped.
    pub(crate) async fn remove(&self, job: Fence) -> bool {
        let (outcome, mut removed) = oneshot::channel();
        self.pending().waiting.push(WaitingJob { job, span: Span::current(), outcome });
        self.begin();
        if let Ok(outcome) = timeout(MAX_WAIT, &mut removed).await {
            return outcome.unwrap_or_default();
        }
        if self.withdraw(job.id) {
            return false;
        }
        // It was sent: the statement has a time limit.
        removed.await.unwrap_or_default()
    }

    /// Takes a job out of the queue. Returns `false` if it is not there: it was sent.
    fn withdraw(&self, id: Uuid) -> bool {
        let mut queue = self.pending();
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.job.id != id);
        queue.waiting.len() < before
    }

    /// Begins a statement if jobs wait and none is executed.
    fn begin(&self) {
        // The runtime may have ended, when a statement is dropped.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut queue = self.pending();
        if queue.is_executing || queue.waiting.is_empty() {
            return;
        }
        queue.is_executing = true;
        drop(queue);
        // Not in the task of an attempt, which may be aborted.
        runtime.spawn(RunningStatement { removals: self.clone(), has_begun: false }.run());
    }

    fn pending(&self) -> MutexGuard<'_, RemovalQueue> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one running statement. However it ends, the next one may begin.
struct RunningStatement {
    removals: Removals,
    /// `false` in a runtime that is ending, which drops tasks that it is given.
    has_begun: bool,
}

impl Drop for RunningStatement {
    fn drop(&mut self) {
        self.removals.pending().is_executing = false;
        if self.has_begun {
            self.removals.begin();
        }
    }
}

impl RunningStatement {
    async fn run(mut self) {
        self.has_begun = true;
        let connection = timeout(ACQUIRE, self.removals.queue.pool.acquire()).await;
        self.let_others_join().await;
        // Not before, so that jobs which end meanwhile share the statement.
        let batch = std::mem::take(&mut self.removals.pending().waiting);
        let removed = match connection {
            Ok(Ok(connection)) if !batch.is_empty() => self.execute(connection, &batch).await,
            // Each attempt waits for a connection of its own, and reports the error.
            _ => Vec::new(),
        };
        for waiting in batch {
            let is_removed = removed.contains(&waiting.job.id);
            _ = waiting.outcome.send(is_removed); // The attempt may have been aborted.
        }
    }

    /// Lets tasks run that are ready: jobs that were claimed together often end at the same time.
    async fn let_others_join(&self) {
        let mut before = 0;
        loop {
            let waiting = self.removals.pending().waiting.len();
            if waiting <= before {
                return;
            }
            before = waiting;
            yield_now().await;
        }
    }

    /// Returns the removed jobs. After an error it is not known whether they are, and each attempt
    /// finds out by itself.
    async fn execute(
        &self,
        mut connection: PoolConnection<Postgres>,
        batch: &[WaitingJob],
    ) -> Vec<Uuid> {
        let span = query_span("delete jobs");
        span.record("db.operation.batch.size", batch.len());
        for waiting in batch {
            telemetry::link(&span, &waiting.span);
        }
        let jobs = batch.iter().map(|waiting| waiting.job);
        let statement = self.removals.queue.remove_all(&mut connection, jobs).instrument(span);
        pg::within(STATEMENT, statement).await.unwrap_or_else(|error| {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "jobs not removed together, removing them one by one"
            );
            if error.as_database_error().is_none() {
                // It may be in the midst of anything.
                drop(connection.detach());
            }
            Vec::new()
        })
    }
}
