//! Removes the rows of an abandoned consumer group.

use sqlx::PgPool;

/// Tables with rows of a subscription. The inbox comes last: while it has rows, `drop_group` can be
/// repeated.
const TABLES: [&str; 12] = [
    "dead_letter",
    "dead_letter_replay",
    "dead_letter_import",
    "attempt",
    "consuming",
    "replay",
    "breaker",
    "pause",
    "applied_version",
    "inbox_version",
    "instance",
    "inbox",
];

/// Result of [`drop_group`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// An instance was seen within the last minute: nothing was dropped.
    Running,
    /// Number of dropped rows.
    Rows(u64),
}

/// Drops the rows of a consumer group (without the prefix) from the consumer's tables: inbox,
/// versions, attempts, dead letters and replays. For a replaced generation; the service drops the
/// tables of its handlers.
///
/// If the group is started again afterwards, it handles the events on its topics again. Its data in
/// Kafka (committed offsets, copies of dead letters) remains.
///
/// # Errors
/// Fails if the database is unavailable. Rows that were dropped before stay dropped, and the call
/// can be repeated.
pub async fn drop_group(pool: &PgPool, group: &str) -> sqlx::Result<Dropped> {
    let is_running: bool = sqlx::query_scalar(
        "select exists (
             select 1 from instance
             where subscription = $1 and seen_at > clock_timestamp() - interval '1 minute')",
    )
    .bind(group)
    .fetch_one(pool)
    .await?;
    if is_running {
        return Ok(Dropped::Running);
    }
    let mut rows = 0;
    for table in TABLES {
        rows += pg::sweep(pool, table, "subscription", group).await?;
    }
    Ok(Dropped::Rows(rows))
}
