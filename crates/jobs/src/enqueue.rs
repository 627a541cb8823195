use std::collections::HashSet;
use std::time::Duration;

use envelope::Cause;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::PgConnection;
use sqlx::types::Json;
use telemetry::{TraceContext, query_span};
use tracing::Instrument;
use uuid::Uuid;

use crate::job::Job;
use crate::places::Lane;

/// A row is no place for files: what is larger belongs elsewhere, and its address into the job.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Tenants and lanes stand in an index, whose entries are bounded.
const MAX_LANE_BYTES: usize = 256;

/// A job that was not enqueued. The transaction can't go on if Postgres said so.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// It can't be written as JSON.
    #[error("the job can't be written as JSON")]
    Encode(#[from] serde_json::Error),
    /// See [`MAX_PAYLOAD_BYTES`].
    #[error("the job takes {size} bytes, and {MAX_PAYLOAD_BYTES} is the limit")]
    TooLarge {
        /// Of its payload.
        size: usize,
    },
    /// The name of its tenant or lane is too long.
    #[error("a tenant or lane takes at most {MAX_LANE_BYTES} bytes, and {size} were given")]
    LaneTooLong {
        /// Of the longer one.
        size: usize,
    },
    /// Postgres refused.
    #[error("the job could not be written")]
    Database(#[from] sqlx::Error),
}

/// What became of a job that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enqueued {
    /// It runs if the transaction commits.
    New(Uuid),
    /// One of its kind and unique key waits or runs already; nothing was written.
    Duplicate,
}

/// What a job carries besides its work.
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
    /// Nothing but the current span.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the job's id, instead of a new one: that of the service's own row about it, by which [`restart`](crate::restart)
    /// finds it. Must be new among the jobs.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// The flow and the span of what causes it.
    pub fn cause(mut self, cause: &Cause) -> Self {
        self.correlation_id = Some(cause.correlation_id.to_string());
        let parent = cause.traceparent.as_ref();
        self.created_in =
            parent.map(|parent| TraceContext::new(parent, cause.tracestate.as_deref()));
        self
    }

    /// The flow that it belongs to.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The span that asks for it (W3C Trace Context), if that is not the current one.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.created_in = Some(TraceContext::new(traceparent, None));
        self
    }

    /// What it is about: the id of a parcel, say. Jobs can be listed by it.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// At most one job of this kind and key waits or runs. One that runs counts too: it may have read already what has
    /// changed since. One that is done or has failed for good does not.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// Names the tenant that it is for. All jobs of a kind that are for one tenant have a quarter of the kind's places.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.lane.tenant = tenant.into();
        self
    }

    /// Names its target: a webhook, say. All jobs of a kind and lane have an eighth of the kind's places, so that a target
    /// that does not answer delays no other. Within a tenant, if it has one.
    pub fn lane(mut self, lane: impl Into<String>) -> Self {
        self.lane.name = lane.into();
        self
    }

    /// Not before that time is over.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// Asks for a job in the caller's transaction: it runs if that commits, and only then. Call
/// [`WorkerWaker::wake`](crate::WorkerWaker::wake) after the commit, or it waits for the next poll.
///
/// Fails with [`EnqueueError`]; after [`EnqueueError::Database`] the transaction can't commit.
///
/// ```no_run
/// # async fn example<J: jobs::Job>(pool: sqlx::PgPool, receipt: J, wake: jobs::WorkerWaker) -> Result<(), Box<dyn std::error::Error>> {
/// use jobs::{Enqueued, Meta};
///
/// let mut tx = pool.begin().await?;
/// let meta = Meta::new().subject("P-17").tenant("acme").unique("receipt of P-17");
/// if jobs::enqueue(&mut tx, &receipt, meta).await? == Enqueued::Duplicate {
///     println!("one of this key waits or runs already");
/// }
/// tx.commit().await?;
/// wake.wake();
/// # Ok(()) }
/// ```
pub async fn enqueue<J: Job>(
    tx: &mut PgConnection,
    job: &J,
    meta: Meta,
) -> Result<Enqueued, EnqueueError> {
    let enqueued = enqueue_all(tx, [(job, meta)]).await?;
    Ok(enqueued.first().copied().unwrap_or(Enqueued::Duplicate))
}

/// Asks for many jobs by one statement; what became of each, in their order.
pub async fn enqueue_all<'a, J: Job>(
    tx: &mut PgConnection,
    jobs: impl IntoIterator<Item = (&'a J, Meta)>,
) -> Result<Vec<Enqueued>, EnqueueError> {
    let rows = Columns::of(jobs)?;
    // Sorted, so that two transactions with some keys in common wait for each other, and do not deadlock.
    let written: HashSet<Uuid> = sqlx::query_scalar(
        "insert into job (id, kind, payload, correlation_id, traceparent, tracestate, subject, unique_key, run_at,
                          tenant, lane)
         select id, $1, payload, correlation_id, traceparent, tracestate, subject, unique_key,
                clock_timestamp() + make_interval(secs => delay), tenant, lane
         from unnest($2::uuid[], $3::json[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
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

/// Writes a job as JSON.
pub(crate) fn payload<J: Job>(job: &J) -> Result<Box<RawValue>, EnqueueError> {
    let payload = to_raw_value(job)?;
    let size = payload.get().len();
    if size > MAX_PAYLOAD_BYTES { Err(EnqueueError::TooLarge { size }) } else { Ok(payload) }
}

#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    payloads: Vec<Json<Box<RawValue>>>,
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
            rows.payloads.push(Json(payload));
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
