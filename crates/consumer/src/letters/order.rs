//! The order of letters. A number is drawn before its row commits, so of two that die at once the later one may be visible
//! first: whoever goes through rows by their numbers asks first up to where none can appear any more.

use sqlx::{Acquire, PgConnection};

/// The class of the advisory lock that burials share until they commit: "DLQ" and a number of this crate's.
pub(super) const BURYING: i32 = 0x444c_5102;

/// A `from` clause with one row, for the statement that writes a letter of the group `$2`: no number is drawn before the lock
/// is held.
pub(super) const FROM_BURYING: &str =
    "from (select pg_advisory_xact_lock_shared($24, hashtext($2))) burying";

/// Returns the number of a group's last letter that is not copied, when those before it have committed or never will, and
/// `None` if all are copied. Waits for burials under way; those that begin meanwhile wait as long.
pub(super) async fn last_to_copy(tx: &mut PgConnection, group: &str) -> sqlx::Result<Option<i64>> {
    let query = "select max(seq) from dead_letter where subscription = $1 and copied_at is null";
    // Rolled back to, it releases the lock, and the transaction goes on.
    let mut savepoint = tx.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
        .bind(BURYING)
        .bind(group)
        .execute(&mut *savepoint)
        .await?;
    let last = sqlx::query_scalar(query).bind(group).fetch_one(&mut *savepoint).await?;
    savepoint.rollback().await?;
    Ok(last)
}
