use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// Limit of [`bounded`], above that of the server.
const LONGEST: Duration = Duration::from_mins(6);

/// Held by an operator's erasure or change of letters. Each may hold a connection for minutes, and
/// the pool has few: acts, pauses and the leases of replays need the others.
static CHANGING: Semaphore = Semaphore::const_new(1);

/// Waits at most six minutes for a transaction that was begun here, or for a statement of one,
/// since a connection can be lost silently.
pub(super) async fn bounded<T>(
    transaction: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    pg::within(LONGEST, transaction).await
}

/// Waits, without a connection, until no other erasure or change of letters runs in this process.
/// The turn ends when the permit is dropped. It would never end if a connection was lost silently,
/// so the statements after it must be [bounded]. The semaphore is never closed.
///
/// Requests for replays, their pauses and cancellations take no turn. They are urgent in an
/// incident, and an erasure, which reads the content of every letter, takes minutes.
pub(super) async fn turn() -> Result<SemaphorePermit<'static>, AcquireError> {
    CHANGING.acquire().await
}

/// Begins a transaction with a longer statement timeout than the pool's, for statements that change
/// hundreds of thousands of letters.
pub(super) async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local statement_timeout = '5min'").await
}
