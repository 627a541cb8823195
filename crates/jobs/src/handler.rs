use std::any::type_name;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::failure::Failure;
use crate::job::Job;

/// Context of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// Id of the job, the same for all attempts: pass it to the target as its idempotency key.
    pub id: Uuid,
    /// Number of this attempt, from 1. An operator's retry starts again from 1.
    pub attempt: u32,
    /// Subject of the job, such as an order's id.
    pub subject: Option<String>,
    /// The flow that it belongs to.
    pub correlation_id: Option<String>,
    /// Time of the enqueueing.
    pub enqueued_at: OffsetDateTime,
}

/// Runs one kind of job.
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

    /// Maximum number of concurrent jobs of this kind in one worker. Choose it well below
    /// [`Options::concurrency`](crate::Options::concurrency), so that other kinds still run when
    /// this kind's target is dead. A tenant has a quarter of the slots and a lane an eighth, at
    /// least one each. As many jobs again may have run and wait for their removal. Default 8.
    const AT_ONCE: usize = 8;

    /// Returns the wait before each retry, to which a jitter of a fifth is applied. The default is
    /// [`Job::BACKOFF`]; override it for configurable waits.
    fn backoff(&self) -> &[Duration] {
        Self::Job::BACKOFF
    }

    /// Runs the job. It may run again after a success, if its worker dies before recording it. It
    /// is dropped at its current await point when its time limit ends, the shutdown times out, its
    /// lease is lost, or the future of [`Worker::run`](crate::Worker::run) is dropped. The end of
    /// its time limit and a panic count as a retryable failure. In the other cases another attempt
    /// may follow. Make the effect idempotent.
    fn run(
        &self,
        job: &Self::Job,
        context: &Context,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Updates the service's own rows about an attempt, in the transaction that records its result
    /// and before [`done`](Self::done) or [`failed`](Self::failed). `failure` is `None` if the
    /// attempt succeeded. Record the effect of an attempt here and not in [`run`](Self::run): this
    /// transaction is retried while the database is unavailable, whereas an error of `run` repeats
    /// the attempt.
    ///
    /// It is also called if the job was restarted meanwhile, and may itself
    /// [`restart`](crate::restart) the job of a failed attempt. It is not called for an attempt
    /// that does not count, or if `run` was not called. An error has the same effect as in `done`
    /// and `failed`; after a success, it is called again with the failure of the hook.
    fn attempted(
        &self,
        tx: &mut PgConnection,
        job: &Self::Job,
        context: &Context,
        failure: Option<&Failure>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        let _ = (tx, job, context, failure);
        NoHook
    }

    /// Updates the service's own row about a job, in the transaction that removes the job after its
    /// success. An error fails the attempt, and the job runs again; if the database is unavailable,
    /// the transaction is retried instead. Jobs of a handler without this hook and `attempted` are
    /// removed together with others that end at the same time.
    fn done(
        &self,
        tx: &mut PgConnection,
        job: &Self::Job,
        context: &Context,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        let _ = (tx, job, context);
        NoHook
    }

    /// Updates the service's own row about a job, in the transaction that records the job's final
    /// failure. It is not called for a payload that can't be decoded. If it fails, the failure is
    /// recorded without it, with a note.
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

/// The [`Handler::attempted`] or [`Handler::done`] of a handler without one.
struct NoHook;

impl Future for NoHook {
    type Output = sqlx::Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// Returns `true` unless `F` is the future of a default hook, which has a type of its own. Types
/// that borrow have no `TypeId`, so their names are compared. A future that has a size may hold the
/// transaction.
fn is_hook<F>() -> bool {
    size_of::<F>() > 0 || type_name::<F>() != type_name::<NoHook>()
}

/// Returns `true` unless the handler has the default [`Handler::attempted`].
fn has_attempted_hook<H: Handler>() -> bool {
    fn of<'a, H: Handler, F>(
        _: impl FnOnce(&'a H, &'a mut PgConnection, &'a H::Job, &'a Context, Option<&'a Failure>) -> F,
    ) -> bool {
        is_hook::<F>()
    }
    of::<H, _>(H::attempted)
}

/// Returns `true` unless the handler has the default [`Handler::done`].
fn has_done_hook<H: Handler>() -> bool {
    fn of<'a, H: Handler, F>(
        _: impl FnOnce(&'a H, &'a mut PgConnection, &'a H::Job, &'a Context) -> F,
    ) -> bool {
        is_hook::<F>()
    }
    of::<H, _>(H::done)
}

/// A type-erased kind of job.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) backoff: Arc<[Duration]>,
    pub(crate) time_limit: Duration,
    pub(crate) at_once: usize,
    pub(crate) has_attempted_hook: bool,
    has_done_hook: bool,
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
            has_attempted_hook: has_attempted_hook::<H>(),
            has_done_hook: has_done_hook::<H>(),
            decode: Arc::new(move |payload| {
                let job = serde_json::from_str(payload)?;
                Ok(Arc::new(HandlerAndJob { handler: Arc::clone(&handler), job }))
            }),
        }
    }

    /// Returns `true` if a hook is called after a success.
    pub(crate) fn has_success_hook(&self) -> bool {
        self.has_attempted_hook || self.has_done_hook
    }

    /// Returns the number of slots of a lane.
    pub(crate) fn of_lane(&self) -> usize {
        (self.at_once / 8).max(1)
    }

    /// Returns the number of slots that all lanes of a tenant share.
    pub(crate) fn of_tenant(&self) -> usize {
        (self.at_once / 4).max(1)
    }

    pub(crate) fn decode(&self, payload: &str) -> serde_json::Result<Arc<dyn Task>> {
        (self.decode)(payload)
    }

    /// Returns the wait after a failed attempt, or `None` after the last one.
    pub(crate) fn wait_after(&self, attempt: u32) -> Option<Duration> {
        let wait = self.backoff.get(usize::try_from(attempt).ok()?.checked_sub(1)?)?;
        Some(wait.mul_f64(0.8 + fastrand::f64() * 0.4))
    }

    /// Returns whether an attempt exceeds the allowed number.
    pub(crate) fn is_beyond(&self, attempt: u32) -> bool {
        usize::try_from(attempt).unwrap_or(usize::MAX) > self.backoff.len() + 1
    }
}

/// A job with its handler.
pub(crate) trait Task: Send + Sync {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<(), Failure>>;

    fn attempted<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
        failure: Option<&'a Failure>,
    ) -> BoxFuture<'a, sqlx::Result<()>>;

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

    fn attempted<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        context: &'a Context,
        failure: Option<&'a Failure>,
    ) -> BoxFuture<'a, sqlx::Result<()>> {
        Box::pin(self.handler.attempted(tx, &self.job, context, failure))
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

    struct WithHooks;

    impl Handler for WithHooks {
        type Job = Nothing;

        async fn run(&self, _: &Nothing, _: &Context) -> Result<(), Failure> {
            Ok(())
        }

        async fn attempted(
            &self,
            _: &mut PgConnection,
            _: &Nothing,
            _: &Context,
            _: Option<&Failure>,
        ) -> sqlx::Result<()> {
            Ok(())
        }

        async fn done(&self, _: &mut PgConnection, _: &Nothing, _: &Context) -> sqlx::Result<()> {
            Ok(())
        }
    }

    /// Has one hook, whose future holds nothing.
    struct WithEmptyHook;

    impl Handler for WithEmptyHook {
        type Job = Nothing;

        async fn run(&self, _: &Nothing, _: &Context) -> Result<(), Failure> {
            Ok(())
        }

        fn done(
            &self,
            _: &mut PgConnection,
            _: &Nothing,
            _: &Context,
        ) -> impl Future<Output = sqlx::Result<()>> + Send {
            std::future::poll_fn(|_| Poll::Ready(Ok(())))
        }
    }

    #[test]
    fn a_hook_is_told_from_the_default_one() {
        let hooks = |kind: Kind| (kind.has_attempted_hook, kind.has_done_hook);
        assert_eq!(hooks(Kind::of(DoNothing)), (false, false));
        assert_eq!(hooks(Kind::of(WithHooks)), (true, true));
        assert_eq!(hooks(Kind::of(WithEmptyHook)), (false, true));
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
