use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pg::ErrorClass;
use telemetry::query_span;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::Instrument;

use super::claims::Claim;
use super::connection::Connection;
use super::queue::{Kind, WaitingChange};
use super::{WriteError, WriterState};
use crate::store::{self, Change, ChangeOutcome, Locks};

/// Time after which a shared statement counts as slow. It usually takes 2 ms with its commit.
const SLOW: Duration = Duration::from_millis(25);
/// Time limit of a statement. Postgres cancels it after 10 s, unless Postgres is unreachable.
const MAX_TIME: Duration = Duration::from_secs(12);

/// Begins a statement of each kind for which changes wait, up to the limits.
pub(super) fn begin(state: &Arc<WriterState>) {
    begin_on(state, None);
}

/// Does the same. A shared statement uses `connection`; if none begins, the connection goes back to
/// the pool.
fn begin_on(state: &Arc<WriterState>, mut connection: Option<Connection>) {
    // There is no runtime any more if a statement is dropped at its end.
    let Ok(runtime) = Handle::try_current() else { return };
    for kind in Kind::ALL {
        if state.queue().begin(kind) {
            let state = Arc::clone(state);
            let connection = if kind == Kind::Shared { connection.take() } else { None };
            let held = Vec::new();
            let statement = RunningStatement { state, kind, held, connection, has_begun: false };
            runtime.spawn(statement.run());
        }
    }
}

/// A running statement. Its end, also by a panic, lets the next one begin.
struct RunningStatement {
    state: Arc<WriterState>,
    kind: Kind,
    /// Claims of the changes that it has taken.
    held: Vec<Claim>,
    /// The connection that the former shared statement has left to it, and that it leaves to the
    /// next one.
    connection: Option<Connection>,
    /// `false` if the runtime is shutting down and drops the task before it runs.
    has_begun: bool,
}

impl Drop for RunningStatement {
    fn drop(&mut self) {
        let mut queue = self.state.queue();
        queue.release(self.held.drain(..));
        queue.end(self.kind);
        drop(queue);
        if self.has_begun {
            begin_on(&self.state, self.connection.take());
        }
    }
}

/// A shared statement that is slow, so that another one may run meanwhile.
struct SlowStatement<'a>(&'a Arc<WriterState>);

impl<'a> SlowStatement<'a> {
    fn begin(state: &'a Arc<WriterState>) -> Self {
        state.queue().begin_slow();
        begin(state);
        Self(state)
    }
}

impl Drop for SlowStatement<'_> {
    fn drop(&mut self) {
        self.0.queue().end_slow();
    }
}

impl RunningStatement {
    /// Runs the statement. What delays a shared one, such as a connection, a lock or a slow disk,
    /// does not delay the other changes for longer than [`SLOW`].
    async fn run(mut self) {
        let state = Arc::clone(&self.state);
        let is_shared = self.kind == Kind::Shared;
        // Borrows the statement, which so ends after it no longer counts as slow.
        let mut work = pin!(self.work());
        if is_shared && timeout(SLOW, &mut work).await.is_ok() {
            return;
        }
        let _slow = is_shared.then(|| SlowStatement::begin(&state));
        work.await;
    }

    async fn work(&mut self) {
        self.has_begun = true;
        if let Some(connection) = self.connection.take() {
            return self.write(connection).await;
        }
        match Connection::acquire(&self.state.pool).await {
            Ok(connection) => self.write(connection).await,
            // Each waiting change has its own time limit, counted from its arrival.
            Err(sqlx::Error::PoolTimedOut) => {}
            Err(sqlx::Error::PoolClosed) => {
                let waiting = self.state.queue().clear(self.kind);
                fail_all(waiting, sqlx::Error::PoolClosed);
            }
            // Only this batch fails, since the next one may get a connection.
            Err(error) => {
                let batch = self.take();
                fail_all(batch, error);
            }
        }
    }

    /// Takes the changes of the statement, and their claims.
    fn take(&mut self) -> Vec<WaitingChange> {
        let batch = self.state.queue().take(self.kind);
        self.held.extend(batch.iter().map(|it| it.claim));
        batch
    }

    async fn write(&mut self, connection: Connection) {
        let batch = self.take();
        if batch.is_empty() {
            return; // The changes were withdrawn, or another statement has taken them.
        }
        let waited = batch.iter().map(|it| it.since.elapsed());
        self.state.instruments.sent(batch.len(), waited);
        begin(&self.state); // More changes may be waiting than this statement has taken.
        let written = execute(connection, &batch, self.kind.locks()).await;
        self.state.wake.wake();
        match written {
            Ok((connection, outcomes)) => {
                self.connection = connection.kept();
                self.settle(batch, outcomes, Kind::LeftOut);
            }
            Err(error) if self.kind == Kind::Shared && may_be_of_one(&error, batch.len()) => {
                let unknown = vec![None; batch.len()];
                self.settle(batch, unknown, Kind::Refused);
            }
            // No change is written; or the connection is lost, and the outcome is unknown.
            Err(error) => fail_all(batch, error),
        }
    }

    /// Reports the outcomes. Changes without one are queued to be executed alone, as changes of the
    /// kind `alone`, and keep their claims until then.
    fn settle(
        &mut self,
        batch: Vec<WaitingChange>,
        outcomes: Vec<Option<ChangeOutcome>>,
        alone: Kind,
    ) {
        let mut settled = Vec::new();
        let mut queue = self.state.queue();
        self.held.clear();
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            if let Some(outcome) = outcome {
                queue.release([waiting.claim]);
                settled.push((waiting, outcome));
            } else {
                queue.set_apart(waiting, alone);
            }
        }
        drop(queue);
        for (waiting, outcome) in settled {
            waiting.settle(Ok(outcome));
        }
    }
}

/// Executes the statement of a batch. Returns the connection, too, if it succeeds. A connection
/// without a response is closed, because its state is unknown.
async fn execute(
    mut connection: Connection,
    batch: &[WaitingChange],
    locks: Locks,
) -> sqlx::Result<(Connection, Vec<Option<ChangeOutcome>>)> {
    let span = query_span("write orders");
    span.record("db.operation.batch.size", batch.len());
    for waiting in batch {
        telemetry::link(&span, &waiting.span);
    }
    let changes: Vec<&Change> = batch.iter().map(|it| &*it.change).collect();
    let statement = store::write(&mut connection.inner, &changes, locks).instrument(span);
    match pg::within(MAX_TIME, statement).await {
        Ok(outcomes) => Ok((connection, outcomes)),
        Err(error) => {
            if error.as_database_error().is_none() {
                drop(connection.inner.detach());
            }
            Err(error)
        }
    }
}

/// Returns whether a shared statement may have failed because of one of its changes: Postgres has
/// rejected the contents, or one of them needs a lock that could not be had. Then nothing is
/// written, and the other changes are tried again.
fn may_be_of_one(error: &sqlx::Error, changes: usize) -> bool {
    let Some(answer) = error.as_database_error() else { return false };
    let code = answer.code().unwrap_or_default();
    if code == "55P03" {
        return true; // A statement of its own waits longer for the lock.
    }
    let refused = match pg::classify(error) {
        ErrorClass::Data | ErrorClass::Denied | ErrorClass::Other => true,
        ErrorClass::Conflict => code.starts_with("40"),
        ErrorClass::Unavailable => false,
    };
    refused && changes > 1
}

fn fail_all(batch: Vec<WaitingChange>, error: sqlx::Error) {
    let error = Arc::new(error);
    for waiting in batch {
        waiting.settle(Err(WriteError::Database(Arc::clone(&error))));
    }
}
