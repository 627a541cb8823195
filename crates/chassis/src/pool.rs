use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

/// Postgres ends a transaction that is idle for longer, so that a frozen instance does not block its successor.
pub(crate) const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(15);

/// A connection that was idle for longer is asked whether it lives before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The pool of a service. Nothing is connected yet.
pub(crate) fn connect_lazily(
    database: PgConnectOptions,
    service: &str,
    connections: u32,
) -> PgPool {
    let idle = IDLE_IN_TRANSACTION.as_millis().to_string();
    let database = database.application_name(service).options([
        ("idle_in_transaction_session_timeout", idle.as_str()),
        ("lock_timeout", "5000"),
        ("statement_timeout", "10000"),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A ping before every use costs a round trip a statement; a dead connection shows at the latest when
        // it is used, and costs one retry.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(
                async move { Ok(meta.idle_for < TRUSTED_FOR || connection.ping().await.is_ok()) },
            )
        })
        .connect_lazy_with(database)
}
