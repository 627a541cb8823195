use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::failure::Failure;
use crate::job::Job;

/// What is known about a job besides what is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The same for all attempts: give it to the target as its idempotency key.
    pub id: Uuid,
    /// This one, from 1. An operator's retry begins anew.
    pub attempt: u32,
    /// What it is about.
    pub subject: Option<String>,
    /// The flow that it belongs to.
    pub correlation_id: Option<String>,
    /// When it was asked for.
    pub enqueued_at: OffsetDateTime,
}

/// What a service does about one kind of job.
///
/// ```no_run
/// use jobs::{Context, Failure, Handler, Job};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct SendReceipt { to: String }
/// # impl Job for SendReceipt { const KIND: &'static str = "send receipt"; }
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("{0} is no address")]
/// # struct NoAddress(String);
/// # async fn send(to: &str, message_id: uuid::Uuid) -> std::io::Result<()> { Ok(()) }
///
/// struct Mailer;
///
/// impl Handler for Mailer {
///     type Job = SendReceipt;
///
///     async fn run(&self, job: &SendReceipt, context: &Context) -> Result<(), Failure> {
///         if !job.to.contains('@') {
///             return Err(Failure::permanent(NoAddress(job.to.clone()))); // no retry helps
///         }
///         send(&job.to, context.id).await?; // any other error is retried, under the same id
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// The kind.
    type Job: Job;

    /// How many of this kind run side by side in one worker. Well below
    /// [`Options::concurrency`](crate::Options::concurrency): when the target of this kind is dead, the others still run. A
    /// tenant has a quarter of them and a lane an eighth, at least one each.
    const AT_ONCE: usize = 8;

    /// Returns the wait before each retry, with a jitter of a fifth. By default [`Job::BACKOFF`]; a handler that is configured
    /// returns its own.
    fn backoff(&self) -> &[Duration] {
        Self::Job::BACKOFF
    }

    /// Makes the effect. It may be run again after it succeeded, if its worker dies before that is recorded. Dropped where
    /// it awaits when its time limit is over, when a shutdown waits no longer, and when its lease is lost.
    fn run(
        &self,
        job: &Self::Job,
        context: &Context,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// In the transaction that removes the job after it succeeded: for the service's own row about it, which is then there
    /// if and only if the job counts as done. An error is a failure of the attempt, and the job is run again; unless the
    /// database is away, which is waited out.
    fn done(
        &self,
        tx: &mut PgConnection,
        job: &Self::Job,
        context: &Context,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        let _ = (tx, job, context);
        async { Ok(()) }
    }

    /// In the transaction that records that the job has failed for good. Not called for a payload that can't be read. If
    /// it fails itself, the record is written without it, and says so.
    fn failed(
        &self,
        tx: &mut PgConnection,
        job: &Self::Job,
        context: &Context,
        failure: &Failure,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        let _ = (tx, job, context, failure);
        async { Ok(()) }
    }
}

/// A kind of job whose types are forgotten.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) backoff: Arc<[Duration]>,
    pub(crate) time_limit: Duration,
    pub(crate) at_once: usize,
    decode: Decode,
}

type Decode = Arc<dyn Fn(&str) -> serde_json::Result<Arc<dyn Task>> + Send + Sync>;

impl Kind {
    pub(crate) fn of<H: Handler>(handler: H) -> Self {
        let handler = Arc::new(handler);
        Self {
            name: H::Job::KIND,
            backoff: handler.backoff().into(),
            time_limit: H::Job::TIME_LIMIT,
            at_once: H::AT_ONCE.max(1),
            decode: Arc::new(move |payload| {
                let job = serde_json::from_str(payload)?;
                Ok(Arc::new(HandlerAndJob { handler: Arc::clone(&handler), job }))
            }),
        }
    }

    /// Returns the number of places of a lane.
    pub(crate) fn of_lane(&self) -> usize {
        (self.at_once / 8).max(1)
    }

    /// Returns the number of places that all lanes of a tenant share.
    pub(crate) fn of_tenant(&self) -> usize {
        (self.at_once / 4).max(1)
    }

    pub(crate) fn decode(&self, payload: &str) -> serde_json::Result<Arc<dyn Task>> {
        (self.decode)(payload)
    }

    /// The wait after an attempt that failed; none: it was the last.
    pub(crate) fn wait_after(&self, attempt: u32) -> Option<Duration> {
        let wait = self.backoff.get(usize::try_from(attempt).ok()?.checked_sub(1)?)?;
        Some(wait.mul_f64(0.8 + fastrand::f64() * 0.4))
    }

    /// Whether an attempt is one more than there are.
    pub(crate) fn is_beyond(&self, attempt: u32) -> bool {
        usize::try_from(attempt).unwrap_or(usize::MAX) > self.backoff.len() + 1
    }
}

/// A job with its handler.
pub(crate) trait Task: Send + Sync {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<(), Failure>>;

    fn done<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
    ) -> BoxFuture<'a, sqlx::Result<()>>;

    fn failed<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
        failure: &'a Failure,
    ) -> BoxFuture<'a, sqlx::Result<()>>;
}

struct HandlerAndJob<H: Handler> {
    handler: Arc<H>,
    job: H::Job,
}

impl<H: Handler> Task for HandlerAndJob<H> {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.handler.run(&self.job, context))
    }

    fn done<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(self.handler.done(tx, &self.job, context))
    }

    fn failed<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
        failure: &'a Failure,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(self.handler.failed(tx, &self.job, context, failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Nothing;

    impl Job for Nothing {
        const KIND: &'static str = "nothing";
    }

    struct DoNothing;

    impl Handler for DoNothing {
        type Job = Nothing;

        async fn run(&self, _: &Nothing, _: &Context) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[test]
    fn three_retries_each_later_with_jitter_and_no_fourth() {
        let kind = Kind::of(DoNothing);
        for (attempt, base) in [(1, 10.0), (2, 60.0), (3, 600.0)] {
            let wait = kind.wait_after(attempt).expect("a retry").as_secs_f64();
            assert!((base * 0.8..=base * 1.2).contains(&wait), "after attempt {attempt}: {wait} s");
            assert!(!kind.is_beyond(attempt));
        }
        assert_eq!(kind.wait_after(4), None);
        assert!(!kind.is_beyond(4) && kind.is_beyond(5));
    }
}
