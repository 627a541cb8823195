use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

/// How often it is tried. A pooler that has one idle session, or hands out the last one that was given back, is found at once;
/// one that takes its idle sessions in turn may need more.
const ROUNDS: usize = 8;

/// Returns whether each connection has a session of its own: `false` if a pooler on the way gives the session to another
/// connection after each transaction or statement, as PgBouncer does with `pool_mode` `transaction` or `statement`.
///
/// Then a lock of a session, a setting of a session and a prepared statement belong to whatever connection is served next.
/// The relay's advisory locks and the limits of [`crate::PoolOptions`] need sessions that last.
///
/// Makes two connections, of which one holds a transaction: if the other one is served by the same process of Postgres
/// meanwhile, or by another one than before, the sessions are shared. A single connection can't tell, since an idle pooler
/// gives it the same session again.
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
        // In this order: where there is one session only, nobody would serve the first connection now.
        if backend(other).await? == before || backend(one).await? != before {
            return Ok(false);
        }
        sqlx::raw_sql("rollback").execute(&mut *other).await?;
    }
    Ok(true)
}

/// Returns the process of Postgres that serves a connection. Not by a prepared statement, which would be the first thing to
/// fail in a session that is shared.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    use sqlx::Row;
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// PgBouncer's answer with `pool_mode=statement`. It has only the code of a violated protocol.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.message().contains("statement pooling"))
}
