//! Retention of the inbox: longer than any event can be redelivered.

use std::time::Duration;

use kafka::{RetentionError, Settings};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::letters;
use crate::options::Options;
use crate::status::Status;

/// Interval of the prunings of the inbox, and the number of rows per statement.
const EVERY: Duration = Duration::from_mins(10);
const CHUNK: u32 = 5_000;

/// Wait before the cluster is asked again for an unknown retention; it doubles up to the last.
const FIRST_ASK_AGAIN: Duration = Duration::from_millis(500);
const LAST_ASK_AGAIN: Duration = Duration::from_mins(1);

/// Source of the problem in the status.
pub(crate) const FOUND_BY: &str = "retention";

/// Why the check of the inbox's retention against that of the topics failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionCheckError {
    /// The inbox would forget events that can still be redelivered.
    #[error(
        "an event can arrive {arrives} after its creation, but the inbox keeps its row for {inbox:?}: raise inbox_retention, \
         or limit how long the topics keep events"
    )]
    TooShort { arrives: String, inbox: Duration },
    /// The cluster does not reveal the retention. Most likely it is short enough, so messages are
    /// consumed.
    #[error(
        "it is not known whether the inbox keeps its rows longer than the topics keep events: {0}"
    )]
    Unknown(#[source] RetentionError),
    /// The cluster does not answer.
    #[error("the topics' retention is not known yet")]
    Unreachable(#[source] RetentionError),
}

/// Describes when an event may still arrive.
fn latest(kept: Option<Duration>, allowance: Duration) -> String {
    match kept {
        Some(kept) => {
            format!(
                "{kept:?} (retention.ms and segment.ms of a topic) and {allowance:?} (in an outbox)"
            )
        }
        None => "any time (by retention.ms or cleanup.policy of a topic)".to_owned(),
    }
}

/// Checks that no event can be redelivered after its inbox row was pruned. `topics` are names on
/// the cluster.
pub(crate) async fn check(
    options: &Options,
    kafka: &Settings,
    topics: &[String],
) -> Result<(), RetentionCheckError> {
    let Some(inbox) = options.inbox_retention else { return Ok(()) };
    let allowance = options.outbox_allowance;
    let kept = match kafka::longest_kept(kafka, topics).await {
        Ok(kept) => kept,
        Err(error @ RetentionError::Unreachable(_)) => {
            return Err(RetentionCheckError::Unreachable(error));
        }
        Err(error) => return Err(RetentionCheckError::Unknown(error)),
    };
    if kept.is_some_and(|kept| kept.saturating_add(allowance) <= inbox) {
        return Ok(());
    }
    Err(RetentionCheckError::TooShort { arrives: latest(kept, allowance), inbox })
}

/// Asks again until the cluster reveals the retention, and then clears the problem. Ends `run` if
/// the inbox would forget too early, so that the next run halts. A new topic is not known to every
/// broker at once.
pub(crate) async fn until_known(
    options: Options,
    kafka: Settings,
    topics: Vec<String>,
    status: Status,
    run: CancellationToken,
) {
    let mut wait = FIRST_ASK_AGAIN;
    while run.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        let checking = check(&options, &kafka, &topics);
        let Some(checked) = run.run_until_cancelled(checking).await else { return };
        match checked {
            Ok(()) => {
                status.set_problems(FOUND_BY, Vec::new());
                return;
            }
            Err(RetentionCheckError::TooShort { .. }) => run.cancel(),
            Err(RetentionCheckError::Unknown(_) | RetentionCheckError::Unreachable(_)) => {}
        }
        wait = (wait * 2).min(LAST_ASK_AGAIN);
    }
}

/// Prunes old inbox rows, and rows of ended instances and old breakers, periodically until
/// shutdown.
pub(crate) async fn prune(
    pool: PgPool,
    subscription: String,
    options: Options,
    shutdown: CancellationToken,
) {
    loop {
        let pruned =
            shutdown.run_until_cancelled(prune_once(&pool, &subscription, options.inbox_retention));
        match pruned.await {
            Some(Ok(0)) | None => {}
            Some(Ok(rows)) => tracing::info!(rows, subscription, "inbox pruned"),
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, subscription, "inbox not pruned");
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

async fn prune_once(
    pool: &PgPool,
    subscription: &str,
    retention: Option<Duration>,
) -> sqlx::Result<u64> {
    prune_standing(pool, subscription).await?;
    letters::prune(pool, subscription, retention, CHUNK).await?;
    let Some(retention) = retention else { return Ok(0) };
    let seconds = retention.as_secs_f64();
    let pruned = prune_inbox(pool, subscription, seconds).await?;
    // Attempts at messages that are no longer on any topic.
    pg::delete_in_chunks(pool, CHUNK, |limit| {
        sqlx::query(
            "delete from attempt where ctid = any (array(
                 select ctid from attempt
                 where subscription = $1 and last_at < now() - make_interval(secs => $2) limit $3))",
        )
        .bind(subscription)
        .bind(seconds)
        .bind(limit)
    })
    .await?;
    Ok(pruned)
}

/// Deletes rows of killed instances, and old counts of failures.
async fn prune_standing(pool: &PgPool, subscription: &str) -> sqlx::Result<()> {
    for delete in [
        "delete from instance where subscription = $1 and seen_at < now() - interval '1 hour'",
        "delete from breaker
         where subscription = $1 and opened_at is null and last_at < now() - interval '1 day'",
    ] {
        pg::bounded(sqlx::query(delete).bind(subscription).execute(pool)).await?;
    }
    Ok(())
}

async fn prune_inbox(pool: &PgPool, subscription: &str, seconds: f64) -> sqlx::Result<u64> {
    pg::delete_oldest(pool, CHUNK, |from, limit| {
        sqlx::query_as(
            "with old as materialized (
                 select ctid, received_at from inbox
                 where subscription = $1 and received_at >= coalesce($2, '-infinity')
                   and received_at < now() - make_interval(secs => $3)
                 order by received_at limit $4
             ), gone as (
                 delete from inbox where ctid = any (array(select ctid from old))
             )
             select count(*) as rows, max(received_at) as until from old",
        )
        .bind(subscription)
        .bind(from)
        .bind(seconds)
        .bind(limit)
    })
    .await
}
