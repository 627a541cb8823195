//! What a group that is no more has left behind.

use sqlx::PgPool;

/// Tables with rows of a subscription. The inbox last: as long as it has rows, dropping can be called again.
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
    /// So many rows were dropped.
    Rows(u64),
}

/// Drops all rows that a consumer group has in the consumer's tables, without the prefix: its inbox, versions, attempts,
/// dead letters and replays. For a generation that was replaced; tables of its handlers are the service's to drop.
///
/// The same group begun again afterwards handles events anew that are still on its topics. What the group has on Kafka
/// (committed offsets, copies of dead letters) stays.
///
/// # Errors
/// The database is unavailable. What was dropped before stays dropped, and the call can be repeated.
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
