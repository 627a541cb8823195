use std::time::{Duration, Instant};

use pg::ErrorClass;
use sqlx::PgPool;
use telemetry::FlowStep;
use telemetry::instruments::Meter;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::budget::WriteBudget;
use super::instruments::Instruments;
use super::ring::Ring;
use super::rows::Rows;
use super::store::FlowStore;

/// Interval of writes while less than a batch waits.
const EVERY: Duration = Duration::from_millis(100);
/// Maximum number of steps per statement, which takes several times their memory.
const BATCH: usize = 1_000;
/// Time limit of a statement, since a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(5);
/// Wait before the next attempt if the database is unavailable.
const BACKOFF: Duration = Duration::from_secs(1);
/// Interval of pruning with `FLOW_STEPS=off`.
const PRUNE_EVERY: Duration = Duration::from_mins(10);
/// Time limit of the last writes at shutdown.
const LAST: Duration = Duration::from_secs(1);

/// Writes a service's steps to its table.
pub(crate) struct Recorder {
    store: FlowStore,
    ring: Ring,
    instruments: Instruments,
    /// Steps that do not fit into memory until the next write are lost.
    budget: WriteBudget,
    /// `true` after a logged failure.
    is_failing: bool,
}

impl Recorder {
    /// Creates the recorder of a store whose table takes about `max_bytes`.
    pub(crate) fn new(store: FlowStore, max_bytes: u64, meter: &Meter) -> Self {
        let instruments = Instruments::new(meter, store.steps.clone());
        let budget = WriteBudget::new(Instant::now());
        Self { store, ring: Ring::new(max_bytes), instruments, budget, is_failing: false }
    }

    /// Writes steps until `shutdown` is cancelled, then the remaining ones. Cancel it once all
    /// tasks that create steps have ended.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        if !self.store.steps.is_on() {
            return self.only_prune(&shutdown).await;
        }
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let next = if self.write_some().await {
                self.next_write(began)
            } else {
                Instant::now() + BACKOFF
            };
            shutdown.run_until_cancelled(sleep_until(next.into())).await;
        }
        let last = async { while self.store.steps.waiting() > 0 && self.write_some().await {} };
        let written = tokio::time::timeout(LAST, last).await.is_ok();
        let left = self.store.steps.waiting();
        if !written || left > 0 {
            tracing::warn!(left, "flow steps lost at shutdown");
        }
    }

    /// Returns the time of the next write after the one that began then and has just ended.
    fn next_write(&mut self, began: Instant) -> Instant {
        let allowed = self.budget.spend(began, Instant::now());
        let is_batch_full = self.store.steps.waiting() >= BATCH;
        if is_batch_full { allowed } else { allowed.max(began + EVERY) }
    }

    /// Prunes steps recorded before `FLOW_STEPS=off`. The counters are exported while this runs.
    async fn only_prune(mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let pruned = pg::within(STATEMENT, self.ring.slot(&self.store.pool)).await;
            if let Err(error) = pruned {
                tracing::debug!(error = &error as &dyn std::error::Error, "flow steps not pruned");
            }
            shutdown.run_until_cancelled(tokio::time::sleep(PRUNE_EVERY)).await;
        }
    }

    /// Writes at most a batch. Returns `false` if the database is unavailable.
    async fn write_some(&mut self) -> bool {
        // The lock keeps an erasure from missing steps on their way from memory to the table.
        let store = self.store.clone();
        let _writing = store.writing.lock().await;
        let steps = store.steps.take(BATCH);
        if steps.is_empty() && !self.ring.is_due() {
            return true;
        }
        match pg::within(STATEMENT, write(&store.pool, &store.instance, &mut self.ring, &steps))
            .await
        {
            Ok(()) => {
                self.instruments.recorded(steps.len());
                self.is_failing = false;
                true
            }
            Err(error) => self.keep(steps, &error),
        }
    }

    /// Puts back steps that were not written, or drops them if their error is permanent. Returns
    /// `true` if they were dropped.
    fn keep(&mut self, steps: Vec<FlowStep>, error: &sqlx::Error) -> bool {
        let is_theirs = matches!(pg::classify(error), ErrorClass::Data);
        if !self.is_failing || is_theirs {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, steps = steps.len(), "flow steps not written");
        }
        if is_theirs {
            self.store.steps.lose(steps.len());
        } else {
            self.is_failing = true;
            self.store.steps.put_back(steps);
        }
        is_theirs
    }
}

async fn write(
    pool: &PgPool,
    instance: &str,
    ring: &mut Ring,
    steps: &[FlowStep],
) -> sqlx::Result<()> {
    let slot = ring.slot(pool).await?;
    if steps.is_empty() {
        return Ok(());
    }
    let rows = Rows::of(steps);
    sqlx::query(
        "insert into flow_step (slot, correlation_id, instance, keys, steps)
         select $1, id, $2, string_to_array(keys, E'\\n'), steps
         from unnest($3::text[], $4::text[], $5::text[]) flow (id, keys, steps)",
    )
    .bind(slot)
    .bind(instance)
    .bind(&rows.correlation_ids)
    .bind(&rows.keys)
    .bind(&rows.steps)
    .execute(pool)
    .await
    .map(drop)
}
