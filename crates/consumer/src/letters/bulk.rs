use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};

/// Limit of [`bounded`], above that of the server.
const LONGEST: Duration = Duration::from_mins(6);

/// Waits at most six minutes for a transaction that was begun here, since a connection can be lost
/// silently.
pub(super) async fn bounded<T>(
    transaction: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    pg::within(LONGEST, transaction).await
}

/// Begins a transaction with a longer statement timeout than the pool's, for statements that change
/// hundreds of thousands of letters.
pub(super) async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local statement_timeout = '5min'").await
}
