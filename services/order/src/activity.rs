//! The activity log: who asked for what, and what came of it. A row for each request, written after its response,
//! many at once. Nobody waits for it, and what can't be written is lost and counted as a deferred task that failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::CompletedRequest;
use defer::Defer;
use sqlx::PgPool;
use telemetry::query_span;
use time::OffsetDateTime;
use tracing::Instrument;

/// How long the first row of a batch waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// Rows that wait; further ones are lost.
const MAX_WAITING: usize = 10_000;
const PRUNED_AT_ONCE: u32 = 5_000;

/// Clones share what waits.
#[derive(Clone)]
pub(crate) struct ActivityLog {
    pool: PgPool,
    waiting: Arc<Mutex<Vec<Row>>>,
}

struct Row {
    at: OffsetDateTime,
    served: CompletedRequest,
}

/// There are more requests than can be written.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_WAITING} rows of the activity log wait already")]
struct Full;

impl ActivityLog {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, waiting: Arc::default() }
    }

    /// Notes a request, when its response is sent.
    pub(crate) fn note(&self, defer: &Defer, served: &CompletedRequest) {
        let (log, served) = (self.clone(), served.clone());
        let row = Row { at: OffsetDateTime::now_utc(), served };
        defer.run("activity log", async move { log.take(row).await }).always();
    }

    /// Whoever brings the first row of a batch writes all that came while it waited.
    async fn take(&self, row: Row) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MAX_WAITING {
                return Err(Full.into());
            }
            waiting.push(row);
            if waiting.len() > 1 {
                return Ok(());
            }
        }
        // However this ends, the next row begins a new batch.
        let batch = Batch(Some(self));
        tokio::time::sleep(GATHER).await;
        write(&self.pool, &batch.take()).await?;
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Row>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write what waits; given up unused, what waits is lost.
struct Batch<'a>(Option<&'a ActivityLog>);

impl Batch<'_> {
    fn take(mut self) -> Vec<Row> {
        self.0.take().map(|log| std::mem::take(&mut *log.waiting())).unwrap_or_default()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.0 {
            log.waiting().clear();
        }
    }
}

async fn write(pool: &PgPool, rows: &[Row]) -> sqlx::Result<()> {
    let of = |row: &Row| row.served.clone();
    let served: Vec<CompletedRequest> = rows.iter().map(of).collect();
    let ms = |served: &CompletedRequest| served.took.as_secs_f64() * 1000.0;
    sqlx::query(
        "insert into activity (at, tenant_id, method, route, path, status, ms, correlation_id)
         select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[],
                              $7::float8[], $8::text[])",
    )
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.tenant.as_ref().map(ToString::to_string)).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.method.to_string()).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.route.clone()).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.path.clone()).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.status.as_u16().cast_signed()).collect::<Vec<_>>())
    .bind(served.iter().map(ms).collect::<Vec<_>>())
    .bind(served.iter().map(|it| it.correlation_id.to_string()).collect::<Vec<_>>())
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
