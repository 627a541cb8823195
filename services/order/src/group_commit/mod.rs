//! Group commit: changes of concurrent requests share a statement, and with it a round trip, a
//! transaction and a commit.
//!
//! While statements are executed, further changes wait in the queue and form the next batch, so a
//! change that meets no other is written at once. Concurrent statements have no order and no key in
//! common. A shared statement waits for no row that another transaction has locked: such a change
//! is written by a statement of its own, so that it delays no other change. The same holds for each
//! change of a statement that Postgres rejects.
//!
//! A change is taken from the queue when there is a connection to send it on. Until then it is
//! withdrawn after [`MAX_WAIT`], or when its caller has disconnected. A withdrawn change is not
//! written.

mod claims;
mod connection;
mod instruments;
mod queue;
mod queue_entry;
mod statement;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Parts, Problem};
use outbox::RelayWaker;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use self::instruments::Instruments;
use self::queue::Queue;
use self::queue_entry::QueueEntry;
use crate::store::{Change, ChangeOutcome};

/// How long a change waits for its statement: as long as the pool waits for a connection.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Divisor of the pool's connections for each kind of single changes, whose statements may wait for
/// locks.
const ALONE_PART: u32 = 4;

/// Result of writing a change.
pub(crate) type Written = Result<ChangeOutcome, WriteError>;

/// The change is not written, or its outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The change was not sent, because the queue is full.
    #[error("too many changes wait for the database")]
    Full,
    /// The change was not sent, because its caller has disconnected.
    #[error("the caller disconnected before the change was sent")]
    CallerLeft,
    /// [`sqlx::Error::PoolTimedOut`] if the change was not sent. Several changes may share the
    /// error of their statement.
    #[error("the statement failed")]
    Database(#[source] Arc<sqlx::Error>),
}

/// Writes changes of orders. Clones share the statements.
#[derive(Clone)]
pub(crate) struct Writer {
    state: Arc<WriterState>,
}

struct WriterState {
    pool: PgPool,
    wake: RelayWaker,
    queue: Arc<Mutex<Queue>>,
    instruments: Instruments,
}

impl Writer {
    /// Creates a writer that wakes the relay after its commits.
    pub(crate) fn new(parts: &Parts) -> Self {
        let (pool, wake) = (parts.pool.clone(), parts.wake.clone());
        let alone = pool.options().get_max_connections() / ALONE_PART;
        let queue = Arc::new(Mutex::new(Queue::new(alone.max(1) as usize)));
        let instruments = Instruments::new(&parts.metrics.meter("order"), Arc::clone(&queue));
        Self { state: Arc::new(WriterState { pool, wake, queue, instruments }) }
    }

    /// Writes a change, in one statement with other concurrent changes. Until it is sent to
    /// Postgres, dropping this future or the end of `disconnected` withdraws it. After that it is
    /// written in any case.
    pub(crate) async fn write(
        &self,
        change: Arc<Change>,
        disconnected: impl Future<Output = ()>,
    ) -> Written {
        // Only an exporter has a use for it.
        let span = if telemetry::exports_spans() {
            tracing::info_span!("wait for statement")
        } else {
            Span::none()
        };
        let (sender, outcome) = oneshot::channel();
        let ticket = self.state.queue().push(change, sender, span.clone())?;
        let entry = QueueEntry::new(Arc::clone(&self.state), ticket, outcome);
        statement::begin(&self.state);
        entry.wait(disconnected).instrument(span).await
    }
}

impl WriterState {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Removes a change from the queue. Returns `false` if it was sent already.
    fn withdraw(self: &Arc<Self>, ticket: queue::Ticket) -> bool {
        let withdrawn = self.queue().withdraw(ticket);
        if withdrawn {
            // Other changes may have waited for its order or its key.
            statement::begin(self);
        }
        withdrawn
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = match error {
            WriteError::Database(error) => return Self::from(&*error),
            WriteError::Full => {
                "too many changes of orders wait to be written; try again, with the same Idempotency-Key if you sent one"
            }
            WriteError::CallerLeft => "the connection was closed before the change was written",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail).retry_after(1)
    }
}
