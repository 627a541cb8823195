//! How long the inbox is kept: longer than any event can come again.

use std::time::Duration;

use kafka::{RetentionError, Settings};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::options::Options;

/// How often the inbox is pruned, and how many rows by one statement.
const EVERY: Duration = Duration::from_mins(10);
const CHUNK: i64 = 5_000;

/// An inbox that would forget what can still come again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooShort {
    #[error(transparent)]
    Unknown(#[from] RetentionError),
    #[error(
        "the topics keep events for {kept}, and with {allowance:?} in an outbox before that they may come later than the \
         inbox remembers them ({inbox:?}): raise inbox_retention, or lower the topics' retention.ms"
    )]
    Shorter { kept: String, allowance: Duration, inbox: Duration },
}

/// Checks that an event can't come again after its inbox row was pruned. `topics` are names on the cluster.
pub(crate) async fn check(
    options: &Options,
    kafka: &Settings,
    topics: &[String],
) -> Result<(), TooShort> {
    let Some(inbox) = options.inbox_retention else { return Ok(()) };
    let allowance = options.outbox_allowance;
    let kept = kafka::longest_kept(kafka, topics).await?;
    if kept.is_some_and(|kept| kept.saturating_add(allowance) <= inbox) {
        return Ok(());
    }
    let kept = kept.map_or_else(|| "ever".to_owned(), |kept| format!("{kept:?}"));
    Err(TooShort::Shorter { kept, allowance, inbox })
}

/// Prunes what is older, every so often, until shutdown.
pub(crate) async fn prune(
    pool: PgPool,
    subscription: String,
    options: Options,
    shutdown: CancellationToken,
) {
    let Some(retention) = options.inbox_retention else { return };
    loop {
        let pruned = shutdown.run_until_cancelled(prune_once(&pool, &subscription, retention));
        match pruned.await {
            Some(Ok(0)) | None => {}
            Some(Ok(rows)) => tracing::info!(rows, subscription, "the inbox was pruned"),
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, subscription, "the inbox was not pruned");
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// In chunks, so that no statement runs for long.
async fn prune_once(pool: &PgPool, subscription: &str, older: Duration) -> sqlx::Result<u64> {
    let mut pruned = 0;
    loop {
        let chunk = sqlx::query(
            "delete from inbox where ctid = any (array(
                 select ctid from inbox
                 where subscription = $1 and received_at < now() - make_interval(secs => $2) limit $3))",
        )
        .bind(subscription)
        .bind(older.as_secs_f64())
        .bind(CHUNK)
        .execute(pool)
        .await?
        .rows_affected();
        pruned += chunk;
        if chunk < CHUNK.unsigned_abs() {
            break;
        }
    }
    // Attempts at messages that no topic holds any more.
    sqlx::query(
        "delete from attempt where subscription = $1 and last_at < now() - make_interval(secs => $2)",
    )
    .bind(subscription)
    .bind(older.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(pruned)
}
