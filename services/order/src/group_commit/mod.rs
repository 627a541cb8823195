//! Group commit: changes of concurrent requests share a statement, and with it a round trip, a transaction and a commit.
//!
//! While statements are executed, further changes wait in the queue and make up the next one, so that a change that comes
//! alone is written at once. No two statements that are executed at the same time have an order or a key in common, and none
//! that is shared waits for a row that another transaction has locked: a change that meets one is written by a statement of
//! its own, so that nobody else waits for it. So is each change of a statement that Postgres refuses.
//!
//! A change is taken from the queue when there is a connection to send it on. Until then it can be withdrawn: after
//! [`MAX_WAIT`], or when its caller is gone. What was withdrawn is not written.

mod claims;
mod instruments;
mod place;
mod queue;
mod statement;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Parts, Problem};
use outbox::RelayWaker;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tracing::Instrument;

use self::instruments::Instruments;
use self::place::Place;
use self::queue::Queue;
use crate::store::{Change, Outcome};

/// How long a change waits for its statement, as the pool has it for a connection.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Statements of single changes may wait for locks. Those of each kind take at most this part of the pool's connections.
const ALONE_PART: u32 = 4;

/// What became of a change.
pub(crate) type Written = Result<Outcome, WriteError>;

/// Why a change is not written, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// It was not sent.
    #[error("too many changes wait for the database")]
    Full,
    /// It was not sent.
    #[error("the caller hung up before the change was sent")]
    CallerLeft,
    /// [`sqlx::Error::PoolTimedOut`] if it was not sent. Several changes may have the error of their statement.
    #[error("the statement failed")]
    Database(#[source] Arc<sqlx::Error>),
}

/// Writes changes of orders. Clones share the statements.
#[derive(Clone)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    pool: PgPool,
    wake: RelayWaker,
    queue: Arc<Mutex<Queue>>,
    instruments: Instruments,
}

impl Writer {
    /// Creates a writer, which wakes the relay after its commits.
    pub(crate) fn new(parts: &Parts) -> Self {
        let (pool, wake) = (parts.pool.clone(), parts.wake.clone());
        let alone = pool.options().get_max_connections() / ALONE_PART;
        let queue = Arc::new(Mutex::new(Queue::new(alone.max(1) as usize)));
        let instruments = Instruments::new(&parts.metrics.meter("order"), Arc::clone(&queue));
        Self { shared: Arc::new(Shared { pool, wake, queue, instruments }) }
    }

    /// Writes a change, with others that are written at the same time. Once it is sent to Postgres it is written although
    /// this future is dropped or the caller is `gone`. Until then either withdraws it.
    pub(crate) async fn write(
        &self,
        change: Arc<Change>,
        gone: impl Future<Output = ()>,
    ) -> Written {
        let span = tracing::info_span!("wait for statement");
        let (told, outcome) = oneshot::channel();
        let ticket = self.shared.queue().push(change, told, span.clone())?;
        let place = Place::new(Arc::clone(&self.shared), ticket, outcome);
        statement::begin(&self.shared);
        place.wait(gone).instrument(span).await
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Takes a change out of the queue. Returns `false` if it is not there: it was sent.
    fn withdraw(self: &Arc<Self>, ticket: queue::Ticket) -> bool {
        let withdrawn = self.queue().withdraw(ticket);
        if withdrawn {
            // Others may have waited for its order or its key.
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
