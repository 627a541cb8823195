use std::collections::HashSet;
use std::time::Duration;

use envelope::Cause;
use sqlx::PgConnection;
use telemetry::{TraceContext, query_span};
use tracing::Instrument;
use uuid::Uuid;

use crate::job::Job;
use crate::slots::Lane;

/// Maximum size of a payload. Store larger data elsewhere, and its address in the job.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Maximum size of tenant and lane names, which are indexed.
const MAX_LANE_BYTES: usize = 256;

/// A job could not be enqueued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The job can't be written as JSON.
    #[error("the job can't be written as JSON")]
    Encode(#[from] serde_json::Error),
    /// The payload is larger than [`MAX_PAYLOAD_BYTES`].
    #[error("the job takes {size} bytes, and {MAX_PAYLOAD_BYTES} is the limit")]
    TooLarge {
        /// Size of the payload in bytes.
        size: usize,
    },
    /// The name of its tenant or lane is too long.
    #[error("a tenant or lane takes at most {MAX_LANE_BYTES} bytes, and {size} were given")]
    LaneTooLong {
        /// Size of the longer name in bytes.
        size: usize,
    },
    /// The statement failed.
    #[error("the job could not be written")]
    Database(#[from] sqlx::Error),
}

/// Result of enqueuing a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enqueued {
    /// The job was written, and runs if the transaction commits.
    New(Uuid),
    /// A job of the same kind and unique key is waiting or running; nothing was written.
    Duplicate,
}

/// Metadata of a job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Meta {
    id: Option<Uuid>,
    correlation_id: Option<String>,
    created_in: Option<TraceContext>,
    subject: Option<String>,
    unique_key: Option<String>,
    lane: Lane,
    delay: Duration,
}

impl Meta {
    /// Creates metadata with only the current span.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the job's id, for example to the id of the service's own row about it, so that
    /// [`restart`](crate::restart) finds the job. It must be unique among the jobs.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets correlation id and span from a cause.
    pub fn cause(mut self, cause: &Cause) -> Self {
        self.correlation_id = Some(cause.correlation_id.to_string());
        let parent = cause.traceparent.as_ref();
        self.created_in =
            parent.map(|parent| TraceContext::new(parent, cause.tracestate.as_deref()));
        self
    }

    /// Sets the correlation id.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Sets the span that enqueues the job (W3C Trace Context), if it is not the current one.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.created_in = Some(TraceContext::new(traceparent, None));
        self
    }

    /// Sets the subject, for example the id of a parcel. Jobs can be listed by subject.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets a unique key: at most one job of this kind and key waits or runs. Completed and failed
    /// jobs do not count.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// Sets the tenant. All jobs of a kind and tenant share a quarter of the kind's slots.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.lane.tenant = tenant.into();
        self
    }

    /// Sets the lane, which is the job's target, for example a webhook. All jobs of a kind and lane
    /// share an eighth of the kind's slots, so that a dead target delays no other. Lanes are
    /// separate for each tenant.
    pub fn lane(mut self, lane: impl Into<String>) -> Self {
        self.lane.name = lane.into();
        self
    }

    /// Delays the first attempt.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// Enqueues a job in the caller's transaction: it runs if and only if that commits. Call
/// [`WorkerWaker::wake`](crate::WorkerWaker::wake) after the commit, or the job waits for the next
/// poll.
///
/// ```no_run
/// # async fn example<J: jobs::Job>(pool: sqlx::PgPool, receipt: J, wake: jobs::WorkerWaker)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use jobs::{Enqueued, Meta};
///
/// let mut tx = pool.begin().await?;
/// let meta = Meta::new().subject("P-17").tenant("acme").unique("receipt of P-17");
/// if jobs::enqueue(&mut tx, &receipt, meta).await? == Enqueued::Duplicate {
///     println!("a job with this key is waiting or running");
/// }
/// tx.commit().await?;
/// wake.wake();
/// # Ok(()) }
/// ```
///
/// # Errors
/// Fails with [`EnqueueError`]; after [`EnqueueError::Database`] the transaction can't commit. If
/// the future is dropped, the job may be written or not: roll the transaction back.
pub async fn enqueue<J: Job>(
    tx: &mut PgConnection,
    job: &J,
    meta: Meta,
) -> Result<Enqueued, EnqueueError> {
    let enqueued = enqueue_all(tx, [(job, meta)]).await?;
    Ok(enqueued.first().copied().unwrap_or(Enqueued::Duplicate))
}

/// Enqueues many jobs in one statement. Returns the result of each, in order.
///
/// # Errors
/// Fails with [`EnqueueError`], and enqueues none; after [`EnqueueError::Database`] the transaction
/// can't commit.
pub async fn enqueue_all<'a, J: Job>(
    tx: &mut PgConnection,
    jobs: impl IntoIterator<Item = (&'a J, Meta)>,
) -> Result<Vec<Enqueued>, EnqueueError> {
    let rows = Columns::of(jobs)?;
    // Sorted, so that transactions with common keys do not deadlock.
    let written: HashSet<Uuid> = sqlx::query_scalar(
        "insert into job (id, kind, payload, correlation_id, traceparent, tracestate, subject, unique_key, run_at,
                          tenant, lane)
         select id, $1, payload::json, correlation_id, traceparent, tracestate, subject, unique_key,
                clock_timestamp() + make_interval(secs => delay), tenant, lane
         from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::float8[], $10::text[], $11::text[])
              as new (id, payload, correlation_id, traceparent, tracestate, subject, unique_key, delay, tenant, lane)
         order by unique_key
         on conflict (kind, unique_key) where unique_key is not null and failed_at is null do nothing
         returning id",
    )
    .bind(J::KIND)
    .bind(&rows.ids)
    .bind(rows.payloads)
    .bind(rows.correlation_ids)
    .bind(rows.traceparents)
    .bind(rows.tracestates)
    .bind(rows.subjects)
    .bind(rows.unique_keys)
    .bind(rows.delays)
    .bind(rows.tenants)
    .bind(rows.lanes)
    .fetch_all(tx)
    .instrument(query_span("insert job"))
    .await?
    .into_iter()
    .collect();
    let became = |id| if written.contains(&id) { Enqueued::New(id) } else { Enqueued::Duplicate };
    Ok(rows.ids.into_iter().map(became).collect())
}

/// Writes a job as JSON. The text is bound as `text`, because `jsonb` refuses `\u0000`.
pub(crate) fn payload<J: Job>(job: &J) -> Result<String, EnqueueError> {
    let payload = serde_json::to_string(job)?;
    let size = payload.len();
    if size > MAX_PAYLOAD_BYTES { Err(EnqueueError::TooLarge { size }) } else { Ok(payload) }
}

#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    /// JSON.
    payloads: Vec<String>,
    correlation_ids: Vec<Option<String>>,
    traceparents: Vec<Option<String>>,
    tracestates: Vec<Option<String>>,
    subjects: Vec<Option<String>>,
    unique_keys: Vec<Option<String>>,
    delays: Vec<f64>,
    tenants: Vec<String>,
    lanes: Vec<String>,
}

impl Columns {
    fn of<'a, J: Job>(jobs: impl IntoIterator<Item = (&'a J, Meta)>) -> Result<Self, EnqueueError> {
        let current = TraceContext::current();
        let mut rows = Self::default();
        for (job, meta) in jobs {
            let payload = payload(job)?;
            let size = meta.lane.tenant.len().max(meta.lane.name.len());
            if size > MAX_LANE_BYTES {
                return Err(EnqueueError::LaneTooLong { size });
            }
            rows.ids.push(meta.id.unwrap_or_else(Uuid::now_v7));
            rows.payloads.push(payload);
            rows.correlation_ids.push(meta.correlation_id);
            let created_in = meta.created_in.or_else(|| current.clone());
            let (traceparent, tracestate) =
                created_in.map(|it| (it.traceparent, it.tracestate)).unzip();
            rows.traceparents.push(traceparent);
            rows.tracestates.push(tracestate.flatten());
            rows.subjects.push(meta.subject);
            rows.unique_keys.push(meta.unique_key);
            rows.delays.push(meta.delay.as_secs_f64());
            rows.tenants.push(meta.lane.tenant);
            rows.lanes.push(meta.lane.name);
        }
        Ok(rows)
    }
}
