use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};

use crate::limit::within;

/// Returns the server's error if `error` only reports that the pool has no connection: a pool keeps
/// retrying when a server refuses, and does not return the server's reason. Returns any other error
/// unchanged.
///
/// Connects outside the pool, within `limit`. If that succeeds, all connections of the pool are in
/// use, and `error` is returned.
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
