//! A separate database for each test, and handlers that the test defines.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jobs::{Context, Enqueued, Failure, Handler, Job, Meta, Options, Worker, WorkerWaker};
use sandbox::testing::{TestSpace, eventually, statements_wait_for_a_lock};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use telemetry::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// With three retries, soon.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) name: String,
}

impl Job for Work {
    const KIND: &'static str = "work";
    const BACKOFF: &'static [Duration] =
        &[Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(600)];
}

/// Without a retry, and with little time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Brief;

impl Job for Brief {
    const KIND: &'static str = "brief";
    const BACKOFF: &'static [Duration] = &[];
    const TIME_LIMIT: Duration = Duration::from_millis(100);
}

type Act = dyn Fn(Context) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

/// Handler that calls a closure of the test, and records its runs.
pub(crate) struct Script<J, const PLACES: usize = 8> {
    act: Box<Act>,
    seen: Seen,
    job: PhantomData<fn() -> J>,
}

/// Attempts of all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) runs: Arc<Mutex<Vec<Context>>>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.runs.lock().unwrap().len()
    }

    pub(crate) fn attempts(&self) -> Vec<u32> {
        self.runs.lock().unwrap().iter().map(|context| context.attempt).collect()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Returns the number of running attempts.
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) async fn ran(&self, times: usize) {
        let ran = async || (self.count() >= times).then_some(());
        eventually(&format!("{times} runs"), PATIENCE, ran).await;
    }
}

impl<J> Script<J> {
    /// Sets the number of jobs that run at once.
    pub(crate) fn at_once<const AT_ONCE: usize>(self) -> Script<J, AT_ONCE> {
        Script { act: self.act, seen: self.seen, job: PhantomData }
    }
}

impl<J: Job, const PLACES: usize> Handler for Script<J, PLACES> {
    type Job = J;
    const AT_ONCE: usize = PLACES;

    async fn run(&self, _: &J, context: &Context) -> Result<(), Failure> {
        struct CountGuard<'a>(&'a AtomicUsize);
        impl Drop for CountGuard<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let now = self.seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        let _count = CountGuard(&self.seen.now);
        self.seen.most.fetch_max(now, Ordering::SeqCst);
        self.seen.runs.lock().unwrap().push(context.clone());
        (self.act)(context.clone()).await
    }

    async fn done(&self, tx: &mut PgConnection, _: &J, context: &Context) -> sqlx::Result<()> {
        note(tx, "done", context).await
    }

    async fn failed(
        &self,
        tx: &mut PgConnection,
        _: &J,
        context: &Context,
        failure: &Failure,
    ) -> sqlx::Result<()> {
        assert!(!failure.chain().is_empty());
        note(tx, "failed", context).await
    }
}

async fn note(tx: &mut PgConnection, what: &str, context: &Context) -> sqlx::Result<()> {
    sqlx::query("insert into effect (job, what, attempt) values ($1, $2, $3)")
        .bind(context.id)
        .bind(what)
        .bind(i32::try_from(context.attempt).unwrap())
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) struct House {
    pub(crate) pool: PgPool,
    pub(crate) url: String,
    pub(crate) wake: WorkerWaker,
    pub(crate) metrics: Metrics,
    pub(crate) seen: Seen,
    pub(crate) options: Options,
}

pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Shuts the worker down, and waits for its end.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        let space = TestSpace::new().await;
        let url = space.database_url().to_owned();
        let pool = PgPool::connect(&url).await.unwrap();
        jobs::migrate(&pool).await.unwrap();
        sqlx::query("create table effect (job uuid, what text, attempt int)")
            .execute(&pool)
            .await
            .unwrap();
        Self {
            pool,
            url,
            wake: WorkerWaker::default(),
            metrics: Metrics::new("test"),
            seen: Seen::default(),
            options: Options { lease: Duration::from_millis(1_500), ..Options::default() },
        }
    }

    pub(crate) fn script<J: Job, F>(
        &self,
        act: impl Fn(Context) -> F + Send + Sync + 'static,
    ) -> Script<J>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Script {
            act: Box::new(move |context| Box::pin(act(context))),
            seen: self.seen.clone(),
            job: PhantomData,
        }
    }

    /// Returns a handler that succeeds.
    pub(crate) fn good<J: Job>(&self) -> Script<J> {
        self.script(|_| async { Ok(()) })
    }

    /// Returns a handler that fails `times` times.
    pub(crate) fn failing<J: Job>(&self, times: u32) -> Script<J> {
        self.script(move |context| async move {
            if context.attempt <= times { Err(Refused(down()).into()) } else { Ok(()) }
        })
    }

    /// Returns a handler that never ends.
    pub(crate) fn endless<J: Job>(&self) -> Script<J> {
        self.script(|_| std::future::pending())
    }

    pub(crate) fn worker(&self) -> Worker {
        let meter = self.metrics.meter("jobs");
        Worker::new(self.pool.clone(), self.wake.clone(), &meter).options(self.options.clone())
    }

    pub(crate) fn run<H: Handler>(&self, handler: H) -> Running {
        run(self.worker().handle(handler))
    }

    pub(crate) async fn enqueue<J: Job + Default>(&self, meta: Meta) -> Uuid {
        let mut tx = self.pool.begin().await.unwrap();
        let enqueued = jobs::enqueue(&mut tx, &J::default(), meta).await.unwrap();
        tx.commit().await.unwrap();
        self.wake.wake();
        match enqueued {
            Enqueued::New(id) => id,
            Enqueued::Duplicate => panic!("a duplicate"),
        }
    }

    /// Returns the rows that the hooks wrote about a job.
    pub(crate) async fn effects(&self, id: Uuid) -> Vec<(String, i32)> {
        sqlx::query_as("select what, attempt from effect where job = $1 order by attempt")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn done(&self, id: Uuid) {
        let gone = async || jobs::find(&self.pool, id).await.unwrap().is_none().then_some(());
        eventually("the job to be done", PATIENCE, gone).await;
    }

    /// Waits until a statement waits for a lock that the test has.
    pub(crate) async fn until_waiting_for_a_lock(&self) {
        statements_wait_for_a_lock(&self.pool, 1, PATIENCE).await;
    }

    pub(crate) async fn has(&self, id: Uuid, state: jobs::State) -> jobs::JobDetails {
        let there = async || {
            let job = jobs::find(&self.pool, id).await.unwrap();
            job.filter(|job| job.record.state == state)
        };
        eventually(&format!("the job to be {state:?}"), PATIENCE, there).await
    }
}

pub(crate) fn run(worker: Worker) -> Running {
    let shutdown = CancellationToken::new();
    Running { task: tokio::spawn(worker.run(shutdown.clone())), shutdown }
}

#[derive(Debug, thiserror::Error)]
#[error("the mail was refused")]
pub(crate) struct Refused(#[source] pub(crate) std::io::Error);

pub(crate) fn down() -> std::io::Error {
    std::io::Error::other("the server is down")
}
