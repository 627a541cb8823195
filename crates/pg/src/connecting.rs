use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};

use crate::limit::within;

/// Returns why a pool has no connection to give, if `error` says only that it has none: the pool goes on trying to connect
/// where a server refuses, and does not tell what it was refused with. Any other error is returned as it is.
///
/// Connects beside the pool, within `limit`. If that succeeds, the pool's connections are all in use, and `error` is right.
pub async fn why_no_connection(pool: &PgPool, error: sqlx::Error, limit: Duration) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    let options = pool.connect_options();
    match within(limit, PgConnection::connect_with(&options)).await {
        Ok(connection) => {
            _ = connection.close().await;
            error
        }
        Err(refused) => refused,
    }
}
