//! The activity log: a row for each request of a known caller, written after its response in batches. Rows that can't
//! be written are lost, and counted as a failed deferred task. Nothing is stored about unknown callers.
//!
//! A row joins the batch when its response is made, and the batch is written after the response of the request that began
//! it is sent. So a row may be written before its own response is sent, or although that can't be sent. If the response of
//! the first is sent slowly, a later request takes over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chassis::CompletedRequest;
use defer::Defer;
use sqlx::PgPool;
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;

/// How long the first row of a batch waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// How long a batch waits for the response of the request that has to write it.
const OVERDUE: Duration = Duration::from_secs(1);
/// Maximum bytes of waiting rows; further ones are lost.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
const PRUNED_AT_ONCE: u32 = 5_000;

/// Clones share the rows that wait.
#[derive(Clone)]
pub(crate) struct ActivityLog {
    pool: PgPool,
    waiting: Arc<Mutex<Waiting>>,
    /// Held while a batch is written, so that a slow database gets one at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Waiting {
    rows: Vec<Row>,
    bytes: usize,
    /// The last request that has to write them, and since when. `None` if there are none.
    deferred: Option<(Turn, Instant)>,
    next: Turn,
}

/// Number of a request that writes a batch.
type Turn = u64;

struct Row {
    at: OffsetDateTime,
    tenant_id: Option<String>,
    method: &'static str,
    route: Option<String>,
    /// Empty if no route matched: then it can be anything.
    path: String,
    status: i16,
    ms: f64,
    correlation_id: String,
}

/// The waiting rows exceed their limit.
#[derive(Debug, thiserror::Error)]
#[error("the activity log has no room for more rows")]
struct Full;

impl ActivityLog {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, waiting: Arc::default(), writing: Arc::default() }
    }

    /// Records a request. Its row joins the waiting batch; the first row of a batch defers the writing, and so does one that
    /// finds the batch overdue.
    pub(crate) fn note(&self, defer: &Defer, served: &CompletedRequest) {
        if !served.is_of_known_caller() {
            return;
        }
        let added = self.waiting().add(Row::of(served), Instant::now());
        match added {
            Ok(None) => {}
            Ok(Some(turn)) => {
                // However its task ends, the next row begins a new batch.
                let batch = Batch { log: Some(self.clone()), turn };
                defer.run("activity log", batch.write()).always();
            }
            Err(full) => {
                defer.run("activity log", async { Err::<(), _>(full) }).always();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds a row. Returns a turn if its request is to write the batch.
    fn add(&mut self, row: Row, now: Instant) -> Result<Option<Turn>, Full> {
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

    /// Drops the rows if the last one that had to write them gives up.
    fn give_up(&mut self, turn: Turn) {
        if self.deferred.is_some_and(|(last, _)| last == turn) {
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

/// The rows that wait, to be written by one task. Dropped without that, they are lost, unless another one is to write them.
struct Batch {
    log: Option<ActivityLog>,
    turn: Turn,
}

impl Batch {
    async fn write(mut self) -> sqlx::Result<()> {
        tokio::time::sleep(GATHER).await;
        let Some(log) = self.log.clone() else { return Ok(()) };
        let _writing = log.writing.lock().await;
        self.log = None;
        let rows = log.waiting().take();
        // Another one may have written them.
        if rows.is_empty() { Ok(()) } else { write(&log.pool, rows).await }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.waiting().give_up(self.turn);
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

/// Removes the rows that are older.
pub(crate) async fn prune(pool: PgPool, older_than: Duration) -> sqlx::Result<()> {
    pg::delete_in_chunks(&pool, PRUNED_AT_ONCE, |limit| {
        sqlx::query(
            "delete from activity where ctid = any(array(
                 select ctid from activity where at < now() - make_interval(secs => $1) order by at limit $2))",
        )
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
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        assert_eq!(waiting.add(row("/orders"), now).expect("room"), Some(1));
        let added = (0..20_000).filter(|_| waiting.add(row(&"x".repeat(800)), now).is_ok()).count();
        assert!((4_000..5_300).contains(&added), "{added}");
        assert!(waiting.bytes <= MAX_WAITING_BYTES);
    }

    #[test]
    fn a_batch_that_is_overdue_is_taken_over_by_a_later_request() {
        let (mut waiting, began) = (Waiting::default(), Instant::now());
        let add = |waiting: &mut Waiting, ms| {
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
