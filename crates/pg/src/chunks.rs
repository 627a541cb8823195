use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgPool, Postgres};

/// Runs a delete again and again until it deletes fewer than `chunk` rows, and returns the number of deleted rows.
///
/// `delete` gets the limit and returns the statement, which must not delete more rows than that:
/// `delete from t where ctid = any(array(select ctid from t where .. limit $1))`. Each statement commits by itself, so none
/// runs into the statement timeout or holds its locks for long.
///
/// Fails with the first error of a statement; what was deleted before stays deleted.
pub async fn delete_in_chunks<'q>(
    pool: &PgPool,
    chunk: u32,
    delete: impl Fn(i64) -> Query<'q, Postgres, PgArguments>,
) -> sqlx::Result<u64> {
    // With a limit of 0 it would never end.
    let chunk = chunk.max(1);
    let mut deleted = 0;
    loop {
        let rows = delete(chunk.into()).execute(pool).await?.rows_affected();
        deleted += rows;
        if rows < chunk.into() {
            return Ok(deleted);
        }
    }
}
