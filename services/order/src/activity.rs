//! The activity log: one row for each request of an authenticated caller, written in batches after
//! the response. A failed batch is not retried: its rows are lost and counted as a failed deferred
//! task. Requests of unknown callers are not recorded.
//!
//! A row joins the waiting batch when its response is created. The request that began the batch
//! writes it once its own response is sent. A row may therefore be written before its own response
//! is sent, or although sending it fails. If the first response is sent slowly, a later request
//! writes the batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chassis::CompletedRequest;
use defer::Defer;
use sqlx::PgPool;
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;

/// How long a batch is collected after its first row.
const GATHER: Duration = Duration::from_millis(200);
/// How long a batch waits for the response of the request that began it, before a later request
/// writes it.
const OVERDUE: Duration = Duration::from_secs(1);
/// Maximum bytes of waiting rows. Further rows are dropped.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
const PRUNED_AT_ONCE: u32 = 5_000;

/// The activity log. Clones share the waiting rows.
#[derive(Clone)]
pub(crate) struct ActivityLog {
    pool: PgPool,
    waiting: Arc<Mutex<WaitingRows>>,
    /// Held while a batch is written, so that a slow database receives one batch at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct WaitingRows {
    rows: Vec<Row>,
    bytes: usize,
    /// The last request that took on writing the batch, and when. `None` if there is no batch.
    deferred: Option<(WriteNumber, Instant)>,
    next: WriteNumber,
}

/// Number of a request that writes a batch.
type WriteNumber = u64;

struct Row {
    at: OffsetDateTime,
    tenant_id: Option<String>,
    method: &'static str,
    route: Option<String>,
    /// Empty if no route matched, because the path is then arbitrary text.
    path: String,
    status: i16,
    ms: f64,
    correlation_id: String,
}

/// The waiting rows have reached [`MAX_WAITING_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("the activity log has no room for more rows")]
struct Full;

impl ActivityLog {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, waiting: Arc::default(), writing: Arc::default() }
    }

    /// Records a request. Its row joins the waiting batch. The first row of a batch defers the
    /// writing, and so does a row that finds the batch overdue.
    pub(crate) fn note(&self, defer: &Defer, served: &CompletedRequest) {
        if !served.is_of_known_caller() {
            return;
        }
        let added = self.waiting().add(Row::of(served), Instant::now());
        match added {
            Ok(None) => {}
            Ok(Some(write)) => {
                // Dropping the batch resets the state, so that the next row begins a new one
                // however this task ends.
                let batch = Batch { log: Some(self.clone()), write };
                defer.run("activity log", batch.write()).always();
            }
            Err(full) => {
                defer.run("activity log", async { Err::<(), _>(full) }).always();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingRows> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingRows {
    /// Adds a row. Returns the number of a write if the caller has to write the batch.
    fn add(&mut self, row: Row, now: Instant) -> Result<Option<WriteNumber>, Full> {
        let bytes = row.bytes();
        if self.bytes + bytes > MAX_WAITING_BYTES {
            return Err(Full);
        }
        self.bytes += bytes;
        self.rows.push(row);
        if self.deferred.is_some_and(|(_, since)| now.duration_since(since) < OVERDUE) {
            return Ok(None);
        }
        self.next += 1;
        self.deferred = Some((self.next, now));
        Ok(Some(self.next))
    }

    /// Removes the rows.
    fn take(&mut self) -> Vec<Row> {
        (self.bytes, self.deferred) = (0, None);
        std::mem::take(&mut self.rows)
    }

    /// Drops the rows if no later request has taken on writing them.
    fn give_up(&mut self, write: WriteNumber) {
        if self.deferred.is_some_and(|(last, _)| last == write) {
            self.take();
        }
    }
}

impl Row {
    fn of(served: &CompletedRequest) -> Self {
        let path = served.route.as_ref().map(|_| served.path.clone());
        Self {
            at: OffsetDateTime::now_utc(),
            tenant_id: served.tenant.as_ref().map(ToString::to_string),
            method: served.method,
            route: served.route.clone(),
            path: path.unwrap_or_default(),
            status: served.status.as_u16().cast_signed(),
            ms: served.took.as_secs_f64() * 1000.0,
            correlation_id: served.correlation_id.to_string(),
        }
    }

    fn bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of::<Self>()
            + optional(&self.tenant_id)
            + optional(&self.route)
            + self.path.len()
            + self.correlation_id.len()
    }
}

/// The waiting rows, to be written by one task. If it is dropped without writing, the rows are lost
/// unless a later request has taken on writing them.
struct Batch {
    log: Option<ActivityLog>,
    write: WriteNumber,
}

impl Batch {
    async fn write(mut self) -> sqlx::Result<()> {
        tokio::time::sleep(GATHER).await;
        let Some(log) = self.log.clone() else { return Ok(()) };
        let _writing = log.writing.lock().await;
        self.log = None;
        let rows = log.waiting().take();
        // A later request may have written the rows already.
        if rows.is_empty() { Ok(()) } else { write(&log.pool, rows).await }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.waiting().give_up(self.write);
        }
    }
}

async fn write(pool: &PgPool, rows: Vec<Row>) -> sqlx::Result<()> {
    sqlx::query(
        "insert into activity (at, tenant_id, method, route, path, status, ms, correlation_id)
         select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[],
                              $7::float8[], $8::text[])",
    )
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tenant_id.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.method).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.route.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.path.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.ms).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.correlation_id.as_str()).collect::<Vec<_>>())
    .execute(pool)
    .instrument(query_span("insert activity"))
    .await?;
    Ok(())
}

/// Deletes rows older than `older_than`, in chunks.
pub(crate) async fn prune(pool: PgPool, older_than: Duration) -> sqlx::Result<()> {
    pg::delete_oldest(&pool, PRUNED_AT_ONCE, |from, limit| {
        sqlx::query_as(
            "with old as materialized (
                 select ctid, at from activity
                 where at >= coalesce($1, '-infinity') and at < now() - make_interval(secs => $2)
                 order by at limit $3
             ), gone as (
                 delete from activity where ctid = any (array(select ctid from old))
             )
             select count(*) as rows, max(at) as until from old",
        )
        .bind(from)
        .bind(older_than.as_secs_f64())
        .bind(limit)
    })
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str) -> Row {
        Row {
            at: OffsetDateTime::UNIX_EPOCH,
            tenant_id: None,
            method: "GET",
            route: None,
            path: path.to_owned(),
            status: 200,
            ms: 1.0,
            correlation_id: String::new(),
        }
    }

    #[test]
    fn rows_that_wait_are_bounded_in_bytes() {
        let (mut waiting, now) = (WaitingRows::default(), Instant::now());
        assert_eq!(waiting.add(row("/orders"), now).expect("room"), Some(1));
        let added = (0..20_000).filter(|_| waiting.add(row(&"x".repeat(800)), now).is_ok()).count();
        assert!((4_000..5_300).contains(&added), "{added}");
        assert!(waiting.bytes <= MAX_WAITING_BYTES);
    }

    #[test]
    fn a_batch_that_is_overdue_is_taken_over_by_a_later_request() {
        let (mut waiting, began) = (WaitingRows::default(), Instant::now());
        let add = |waiting: &mut WaitingRows, ms| {
            waiting.add(row("/orders"), began + Duration::from_millis(ms)).expect("room")
        };
        assert_eq!(add(&mut waiting, 0), Some(1));
        assert_eq!(add(&mut waiting, 900), None);
        assert_eq!(add(&mut waiting, 1_000), Some(2));
        assert_eq!(add(&mut waiting, 1_900), None);
        waiting.give_up(1);
        assert_eq!(waiting.rows.len(), 4, "the second one writes them");
        assert_eq!(waiting.take().len(), 4);
        assert_eq!(add(&mut waiting, 1_950), Some(3), "a new batch");
        waiting.give_up(2);
        assert_eq!(waiting.rows.len(), 1);
        waiting.give_up(3);
        assert_eq!((waiting.rows.len(), waiting.bytes), (0, 0));
        assert_eq!(add(&mut waiting, 1_960), Some(4));
    }
}
