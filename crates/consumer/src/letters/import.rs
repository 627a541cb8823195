//! Imports `<group>.dlq`: the letters of an earlier release that did not store rows.

use std::ops::Range;
use std::time::Duration;

use kafka::{DeadLetter, Record, Settings, dead_letter_topic};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::task::spawn_blocking;

use super::bulk;
use super::burial::expires_after;
use super::copies::CopyError;
use super::record::{Attributes, NewLetter, PARAMETERS, WRITTEN};
use crate::fingerprint::fingerprint_of_text;

/// Maximum bytes of records imported in one transaction, and the time limit for reading them.
const PART: usize = 4 * 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(30);
/// The longest name of a topic that Kafka allows.
const MAX_TOPIC: usize = 249;
/// Plausible timestamps, in milliseconds since 1970: up to the year 2100.
const YEARS: Range<i64> = 0..4_102_444_800_000;

/// Imports the records written to the topic since the last import. A letter with known coordinates
/// stays unchanged; a letter that an earlier release has replayed successfully is resolved.
pub(super) async fn import(
    pool: &PgPool,
    kafka: &Settings,
    group: &str,
    inbox_retention: Option<Duration>,
) -> Result<(), CopyError> {
    let expire_after = expires_after(inbox_retention);
    let topic = kafka.prefixed(&dead_letter_topic(group).name);
    let mut imported = 0;
    loop {
        let from = sqlx::query_as(
            "select partition, next_offset from dead_letter_import where subscription = $1",
        )
        .bind(group)
        .fetch_all(pool);
        let from: Vec<(i32, i64)> = pg::bounded(from).await?;
        let (settings, of) = (kafka.clone(), topic.clone());
        let reading = spawn_blocking(move || kafka::read_part(&settings, &of, &from, PART, WITHIN));
        let (records, next) = match reading.await? {
            Err(error) if error.is_missing_topic() => break,
            read => read?,
        };
        if next.is_empty() {
            break;
        }
        let importing = async {
            let (mut tx, mut inserted) = (pool.begin().await?, 0);
            for record in &records {
                inserted += insert(&mut tx, group, record, expire_after).await?;
            }
            note(&mut tx, group, &next).await?;
            tx.commit().await?;
            Ok(inserted)
        };
        imported += bulk::bounded(importing).await?;
    }
    if imported > 0 {
        tracing::info!(group, letters = imported, topic, "dead letters imported from their topic");
    }
    Ok(())
}

async fn note(tx: &mut PgConnection, group: &str, next: &[(i32, i64)]) -> sqlx::Result<()> {
    let (partitions, offsets): (Vec<_>, Vec<_>) = next.iter().copied().unzip();
    sqlx::query(
        "insert into dead_letter_import (subscription, partition, next_offset)
         select $1, * from unnest($2::integer[], $3::bigint[])
         on conflict (subscription, partition) do update set next_offset = excluded.next_offset",
    )
    .bind(group)
    .bind(partitions)
    .bind(offsets)
    .execute(tx)
    .await?;
    Ok(())
}

/// Returns the number of rows written. Records that are not dead letters of this group, or are
/// known, are skipped.
async fn insert(
    tx: &mut PgConnection,
    group: &str,
    record: &Record,
    expire_after: Option<f64>,
) -> sqlx::Result<u64> {
    // A copy of a row, which may have been resolved and pruned since.
    if record.text_header(kafka::LETTER_ID).is_some() {
        return Ok(0);
    }
    let Some(DeadLetter { origin, reason, .. }) = DeadLetter::read(record) else { return Ok(0) };
    // Any client may write to the topic.
    if origin.topic.len() > MAX_TOPIC || origin.topic.contains('\0') {
        return Ok(0);
    }
    let headers = record.headers.iter().filter(|(name, _)| !kafka::is_dead_letter_header(name));
    let headers = headers.collect();
    let letter = NewLetter {
        group,
        origin,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        attributes: Attributes::of_record(record),
        reason: &reason,
        kind: &fingerprint_of_text(&reason.exception, &reason.message),
    };
    let insert = format!(
        r#"insert into dead_letter ({WRITTEN}, died_at, copied_at, status, outcome, closed_at, expires_at)
           select {PARAMETERS}, died_at, clock_timestamp(),
               case when well is not null then 'resolved' when is_parked then 'parked' else 'dead' end, well,
               case when well is not null then clock_timestamp() end, died_at + make_interval(secs => $23)
           from (select max(outcome) filter (where outcome in ('processed', 'duplicate', 'superseded', 'ignored')) as well,
                        coalesce(bool_or(outcome = 'parked'), false) as is_parked,
                        coalesce(to_timestamp($22::double precision / 1000), clock_timestamp()) as died_at
                 from replay
                 where subscription = $2 and topic = $3 and partition = $4 and "offset" = $5 and "timestamp" = $6) replayed
           on conflict (subscription, topic, partition, "offset", "timestamp") do nothing"#,
    );
    let inserted = letter
        .bind(sqlx::query(AssertSqlSafe(insert)))
        .bind(record.timestamp.filter(|at| YEARS.contains(at)))
        .bind(expire_after);
    Ok(inserted.execute(tx).await?.rows_affected())
}
