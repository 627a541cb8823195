//! Writes messages to the dead letters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use envelope::TenantId;
use kafka::{Coordinates, Reason, Record};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::order::{BURYING, FROM_BURYING};
use super::record::{Attributes, NewLetter, PARAMETERS, WRITTEN, clean};
use crate::failure::Failure;
use crate::fingerprint::shortened;
use crate::instruments::Instruments;
use crate::message::Taken;

/// Time between a letter's expiry and the pruning of its inbox row.
const MARGIN: Duration = Duration::from_hours(24);

/// Maximum length of a stored text, in bytes.
const MAX_TEXT: usize = 8 * 1024;

/// Why a message was dead-lettered.
#[derive(Clone, Debug)]
pub(crate) struct LetterReason {
    pub(crate) reason: Reason,
    /// Equal for failures of one kind.
    pub(crate) fingerprint: String,
}

impl From<&Failure> for LetterReason {
    fn from(failure: &Failure) -> Self {
        Self { reason: failure.reason(), fingerprint: failure.fingerprint() }
    }
}

/// A failure as it stands in `dead_letter.attempts`.
#[derive(Serialize)]
pub(crate) struct FailedAttempt<'a> {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    exception: &'a str,
    message: String,
    causes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Uuid>,
}

impl<'a> FailedAttempt<'a> {
    /// Creates the entry for a failure at the current time, in a replay or outside of one.
    pub(crate) fn new(reason: &'a Reason, replay: Option<Uuid>) -> Self {
        Self {
            at: OffsetDateTime::now_utc(),
            exception: &reason.exception,
            message: cut(&reason.message),
            causes: cut(&reason.stacktrace),
            replay,
        }
    }
}

pub(super) fn cut(text: &str) -> String {
    clean(&text[..text.floor_char_boundary(MAX_TEXT)])
}

/// Returns the fingerprint that letters of one subscription, type and kind of failure share.
pub(super) fn fingerprint(group: &str, event_type: Option<&str>, failure: &str) -> String {
    let mut digest = Sha256::new();
    for part in [group, event_type.unwrap_or_default(), failure] {
        digest.update(part);
        digest.update([0]);
    }
    shortened(digest)
}

/// Returns after how many seconds a letter expires, given the retention of the inbox.
pub(super) fn expires_after(inbox_retention: Option<Duration>) -> Option<f64> {
    inbox_retention.map(|it| it.saturating_sub(MARGIN).as_secs_f64())
}

/// Writes a subscription's dead letters.
pub(crate) struct Graveyard {
    pub(crate) pool: PgPool,
    pub(crate) group: String,
    /// Retention of the inbox.
    pub(crate) inbox_retention: Option<Duration>,
    pub(crate) instruments: Instruments,
    /// Wakes the task that copies letters.
    pub(crate) buried: Arc<Notify>,
}

impl Graveyard {
    /// Writes a dead letter with all attempts at its message, and deletes the attempts. An existing
    /// letter stays unchanged.
    pub(crate) async fn bury(&self, taken: &Taken, why: &LetterReason) -> sqlx::Result<()> {
        let burying = async {
            let buried =
                self.insert(taken, why).instrument(telemetry::query_span("insert dead_letter"));
            if buried.await? {
                log(taken, why);
                self.instruments.dead_lettered();
                self.buried.notify_one();
            }
            sabotage::may_die("consumer.buried");
            Ok(())
        };
        burying.instrument(taken.span.clone()).await
    }

    async fn insert(&self, taken: &Taken, why: &LetterReason) -> sqlx::Result<bool> {
        let record = taken.record();
        let letter = NewLetter {
            group: &self.group,
            origin: Coordinates::of(record),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            attributes: Attributes::of(taken),
            reason: &why.reason,
            kind: &why.fingerprint,
        };
        let insert = format!(
            r#"with before as (
                   delete from attempt
                   where subscription = $2 and topic = $3 and partition = $4 and "offset" = $5
                   returning case when "timestamp" in (-1, $6) then failures else '[]' end as failures
               )
               insert into dead_letter ({WRITTEN}, attempts, expires_at)
               select {PARAMETERS}, coalesce((select failures from before), '[]') || $22,
                   clock_timestamp() + make_interval(secs => $23)
               {FROM_BURYING}
               on conflict (subscription, topic, partition, "offset", "timestamp") do nothing"#,
        );
        let inserted = letter
            .bind(sqlx::query(AssertSqlSafe(insert)))
            .bind(Json([FailedAttempt::new(&why.reason, None)]))
            .bind(expires_after(self.inbox_retention))
            .bind(BURYING);
        Ok(pg::bounded(inserted.execute(&self.pool)).await?.rows_affected() > 0)
    }
}

/// Returns the offsets and timestamps of a partition's records, from an offset on, that are dead
/// letters. They may be redelivered if offsets before them are not finished.
pub(crate) async fn dead_from(
    pool: &PgPool,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> sqlx::Result<HashSet<(i64, i64)>> {
    let dead: Vec<(i64, i64)> = sqlx::query_as(
        r#"select "offset", "timestamp" from dead_letter
           where subscription = $1 and topic = $2 and partition = $3 and "offset" >= $4"#,
    )
    .bind(group)
    .bind(topic)
    .bind(partition)
    .bind(offset)
    .fetch_all(pool)
    .await?;
    Ok(dead.into_iter().collect())
}

fn log(taken: &Taken, LetterReason { reason, .. }: &LetterReason) {
    let record: &Record = taken.record();
    let envelope = taken.envelope();
    let span = Span::current();
    span.record("error.type", reason.exception.as_str());
    span.record("otel.status_code", "ERROR");
    tracing::error!(
        reason = reason.message,
        topic = record.topic,
        partition = record.partition,
        offset = record.offset,
        event_id = envelope.map(|it| it.id.as_str()).or_else(|| record.text_header("ce_id")),
        correlation_id = envelope
            .map(|it| it.correlation_id.as_str())
            .or_else(|| record.text_header("ce_correlationid")),
        tenant_id = envelope
            .and_then(|it| it.tenant_id.as_ref())
            .map(TenantId::as_str)
            .or_else(|| record.text_header("ce_tenantid")),
        "message dead-lettered"
    );
    // After the log line, which would contain both fields twice.
    span.record("outcome", "dead-lettered");
    span.record("error", reason.stacktrace.replace("\ncaused by: ", ": "));
}
