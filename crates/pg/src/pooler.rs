use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

/// Number of attempts. A pooler with one idle session, or one that reuses the last released
/// session, is detected at once; one that rotates its idle sessions may need more.
const ROUNDS: usize = 8;

/// Returns `true` if each connection keeps its session. Returns `false` behind a pooler that passes
/// the session to another connection after each transaction or statement, like PgBouncer with
/// `pool_mode` `transaction` or `statement`.
///
/// Behind such a pooler, session locks, session settings and prepared statements pass to the next
/// connection. The relay's advisory locks and the limits of [`crate::PoolOptions`] need permanent
/// sessions.
///
/// Opens two connections, one of which holds a transaction. If meanwhile the other one is served by
/// the same Postgres process, or by another one than before, sessions are shared. A single
/// connection can't detect this, since an idle pooler assigns it the same session again.
///
/// # Errors
/// Fails if it can't connect, or with the error of a statement.
pub async fn keeps_sessions(database: &PgConnectOptions) -> sqlx::Result<bool> {
    let connect = || PgConnection::connect_with(database);
    let (mut one, mut other) = tokio::try_join!(connect(), connect())?;
    let keeps = keeps_between(&mut one, &mut other).await;
    _ = tokio::join!(one.close(), other.close());
    keeps
}

async fn keeps_between(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    for _ in 0..ROUNDS {
        let before = backend(one).await?;
        if let Err(error) = sqlx::raw_sql("begin").execute(&mut *other).await {
            return if refuses_transactions(&error) { Ok(false) } else { Err(error) };
        }
        // In this order, because with a single session the first connection would not be served
        // now.
        if backend(other).await? == before || backend(one).await? != before {
            return Ok(false);
        }
        sqlx::raw_sql("rollback").execute(&mut *other).await?;
    }
    Ok(true)
}

/// Returns the Postgres process that serves a connection. Uses no prepared statement, since those
/// fail first in shared sessions.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    use sqlx::Row;
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Returns `true` for PgBouncer's error with `pool_mode=statement`, whose code only says that the
/// protocol was violated.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.message().contains("statement pooling"))
}
