use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::limit::{bounded, within};

/// Time limit of a maintenance statement, more than any server allows it: the next one must get its
/// turn also after a connection was lost silently.
const LONGEST: Duration = Duration::from_mins(10);

/// Held by maintenance, which uses one connection at a time, regardless of the number of tables.
static TURN: Semaphore = Semaphore::const_new(1);

/// Number of blocks of a table (8 kB by default) that one statement sweeps.
const BLOCKS: i64 = 1_024;

/// Executes a maintenance statement when no other one of this process is running. It should be
/// short, such as a chunk of a delete, and is given up after ten minutes.
///
/// # Errors
/// Fails with the error of the statement, or with [`sqlx::Error::Io`] after ten minutes.
pub async fn in_turn<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    // The semaphore is never closed.
    let _turn = TURN.acquire().await;
    within(LONGEST, statement).await
}

/// Repeats a delete until it deletes fewer than `chunk` rows, and returns the number of deleted
/// rows.
///
/// `delete` gets the limit and returns the statement, which must not delete more rows than that:
/// `delete from t where ctid = any(array(select ctid from t where .. limit $1))`.
/// Each statement commits by itself, so none exceeds the statement timeout or holds its locks for
/// long. They run [in turn](in_turn) with other maintenance.
///
/// Until Postgres vacuums them, each statement scans the rows deleted by earlier ones again. This
/// is negligible for a few chunks; for many, use [`delete_oldest`] or [`sweep`].
///
/// # Errors
/// Fails with the first error of a statement; rows deleted before stay deleted.
pub async fn delete_in_chunks<'q>(
    pool: &PgPool,
    chunk: u32,
    delete: impl Fn(i64) -> Query<'q, Postgres, PgArguments>,
) -> sqlx::Result<u64> {
    // A limit of 0 would never end.
    let chunk = chunk.max(1);
    let mut deleted = 0;
    loop {
        let rows = in_turn(delete(chunk.into()).execute(pool)).await?.rows_affected();
        deleted += rows;
        if rows < chunk.into() {
            return Ok(deleted);
        }
    }
}

/// Rows that a statement of [`delete_oldest`] has deleted.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct DeletedChunk {
    /// Their number.
    pub rows: i64,
    /// The time of the youngest of them, by which they were ordered.
    pub until: Option<OffsetDateTime>,
}

/// Repeats a delete of a table's oldest rows until it deletes fewer than `chunk` rows, and returns
/// the number of deleted rows. Each starts at the time at which the last one ended, since Postgres
/// scans deleted rows again until it vacuums them.
///
/// `delete` gets that time, or `None` at first, and the limit, and returns the statement. An index
/// must have the order of its rows:
/// `with old as materialized (select ctid, at from t where at >= coalesce($1, '-infinity') and ..
/// order by at limit $2), gone as (delete from t where ctid = any (array(select ctid from old)))
/// select count(*) as rows, max(at) as until from old`.
/// Each statement commits by itself and runs [in turn](in_turn) with other maintenance.
///
/// # Errors
/// Fails with the first error of a statement; rows deleted before stay deleted.
pub async fn delete_oldest<'q>(
    pool: &PgPool,
    chunk: u32,
    delete: impl Fn(Option<OffsetDateTime>, i64) -> QueryAs<'q, Postgres, DeletedChunk, PgArguments>,
) -> sqlx::Result<u64> {
    // A limit of 0 would never end.
    let chunk = i64::from(chunk.max(1));
    let (mut deleted, mut from) = (0, None);
    loop {
        let DeletedChunk { rows, until } = in_turn(delete(from, chunk).fetch_one(pool)).await?;
        deleted += rows.unsigned_abs();
        if rows < chunk {
            return Ok(deleted);
        }
        from = until;
    }
}

/// Deletes the rows of a table that have a value in a column, and returns their number. It scans
/// the whole table once, a thousand blocks at a time, so it needs no index, and its cost grows only
/// with the size of the table. Rows that are inserted meanwhile may stay.
///
/// `table` and `column` must be literals of the program, never input.
///
/// # Errors
/// Fails with the first error of a statement; rows deleted before stay deleted.
pub async fn sweep(
    pool: &PgPool,
    table: &'static str,
    column: &'static str,
    value: &str,
) -> sqlx::Result<u64> {
    let size = "select pg_relation_size($1::regclass) / current_setting('block_size')::bigint";
    let blocks: i64 = bounded(sqlx::query_scalar(size).bind(table).fetch_one(pool)).await?;
    let mut deleted = 0;
    for from in (0..=blocks).step_by(usize::try_from(BLOCKS).unwrap_or(1)) {
        let delete = format!(
            "delete from {table} where {column} = $1 and ctid >= '({from},0)'::tid and ctid < '({},0)'::tid",
            from + BLOCKS
        );
        let swept = sqlx::query(AssertSqlSafe(delete)).persistent(false).bind(value).execute(pool);
        deleted += in_turn(swept).await?.rows_affected();
    }
    Ok(deleted)
}
