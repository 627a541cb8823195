//! The order of letters. A number is drawn before its row commits, so of two concurrent letters the
//! later one may become visible first. Code that reads rows by number first asks up to which number
//! no row can appear any more.

use sqlx::{Acquire, PgConnection};

/// Class of the advisory lock that burials share until they commit: "DLQ" and a number of this
/// crate.
pub(super) const BURYING: i32 = 0x444c_5102;

/// A `from` clause with one row, for the statement that writes a letter of the group `$2`. It takes
/// the lock before a number is drawn.
pub(super) const FROM_BURYING: &str =
    "from (select pg_advisory_xact_lock_shared($24, hashtext($2))) burying";

/// Returns the number of a group's last uncopied letter, once all letters before it have committed
/// or never will, or `None` if all are copied. Waits for current burials; new burials wait
/// meanwhile.
pub(super) async fn last_to_copy(tx: &mut PgConnection, group: &str) -> sqlx::Result<Option<i64>> {
    let some =
        "select exists (select from dead_letter where subscription = $1 and copied_at is null)";
    if !sqlx::query_scalar(some).bind(group).fetch_one(&mut *tx).await? {
        return Ok(None);
    }
    // A rollback to the savepoint releases the lock, and the transaction continues.
    let mut savepoint = tx.begin().await?;
    // Burials that begin meanwhile wait as long.
    sqlx::raw_sql("set local lock_timeout = '500ms'").execute(&mut *savepoint).await?;
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
        .bind(BURYING)
        .bind(group)
        .execute(&mut *savepoint)
        .await?;
    let last = "select max(seq) from dead_letter where subscription = $1 and copied_at is null";
    let last = sqlx::query_scalar(last).bind(group).fetch_one(&mut *savepoint).await?;
    savepoint.rollback().await?;
    Ok(last)
}
