use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::handler::{Handler, Kind};
use crate::instruments::Instruments;
use crate::leases::Leases;
use crate::options::Options;
use crate::queue::{Claimed, Depth, Places, Queue};
use crate::wake::WorkerWaker;

/// How long a statement may take: a connection can die without a word.
const STATEMENT: Duration = Duration::from_secs(10);
/// How long a worker waits for a database that is away.
const BACKOFF: Duration = Duration::from_secs(1);
/// How long the last statements may take at shutdown, each.
const GRACE: Duration = Duration::from_secs(1);
/// How often depth and age are measured.
const MEASURE: Duration = Duration::from_secs(5);

/// Runs the jobs of one database. Every instance of a service runs one, and they share the jobs.
pub struct Worker {
    pool: PgPool,
    wake: WorkerWaker,
    options: Options,
    kinds: HashMap<&'static str, Kind>,
    instruments: Arc<Instruments>,
    steps: FlowSteps,
}

impl Worker {
    /// `pool` is the service's own database, migrated; `wake` is what those call who enqueue.
    pub fn new(pool: PgPool, wake: WorkerWaker, meter: &Meter) -> Self {
        Self {
            pool,
            wake,
            options: Options::default(),
            kinds: HashMap::new(),
            instruments: Arc::new(Instruments::new(meter)),
            steps: FlowSteps::off(),
        }
    }

    /// Other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Records each attempt at a job as a step of its flow.
    #[must_use]
    pub fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// What is done about a kind of job. Kinds without a handler are left to instances that have one.
    ///
    /// # Panics
    /// If the kind has a handler already: one of them would never be called.
    #[must_use]
    pub fn handle<H: Handler>(mut self, handler: H) -> Self {
        let kind = Kind::of(handler);
        let name = kind.name;
        self.instruments.begin(name);
        let before = self.kinds.insert(name, kind);
        assert!(before.is_none(), "there are two handlers for {name}");
        self
    }

    /// Runs until `shutdown`. Loss of the database is waited out. Dropped, it is as if its process had been killed.
    pub async fn run(self, shutdown: CancellationToken) {
        let queue = Queue::new(self.pool.clone(), self.options.lease);
        let leases = Leases::default();
        tracing::info!(worker = %queue.worker, kinds = ?self.kinds.keys(), "jobs are run");
        tokio::select! {
            () = Loop::new(&self, &queue, &leases).run(&shutdown) => {}
            () = keep(&queue, &leases) => {}
            () = measure(&queue, &self) => {}
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<_> = self.kinds.keys().collect();
        f.debug_struct("Worker")
            .field("kinds", &kinds)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Claims jobs and starts them.
struct Loop<'a> {
    worker: &'a Worker,
    queue: &'a Queue,
    leases: &'a Leases,
    /// Kinds of which there may be more than was claimed.
    hungry: HashSet<&'static str>,
    /// Aborted when this is dropped.
    running: JoinSet<()>,
}

impl<'a> Loop<'a> {
    fn new(worker: &'a Worker, queue: &'a Queue, leases: &'a Leases) -> Self {
        Self { worker, queue, leases, hungry: HashSet::new(), running: JoinSet::new() }
    }

    async fn run(mut self, shutdown: &CancellationToken) {
        let mut next_poll = Instant::now();
        while !shutdown.is_cancelled() {
            while self.running.try_join_next().is_some() {}
            if Instant::now() >= next_poll {
                self.hungry.extend(self.worker.kinds.keys());
                next_poll = Instant::now() + self.worker.options.poll;
            }
            let places = self.places();
            if !places.kinds.is_empty() {
                if let Err(error) = self.claim(&places, shutdown).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no jobs can be claimed; they wait"
                    );
                    shutdown.run_until_cancelled(sleep(BACKOFF)).await;
                }
                continue;
            }
            tokio::select! {
                () = self.worker.wake.woken() => self.hungry.extend(self.worker.kinds.keys()),
                Some(_) = self.running.join_next() => {}
                () = sleep_until(next_poll) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.end().await;
    }

    /// For the hungry kinds.
    fn places(&self) -> Places {
        let together = self.worker.options.concurrency.max(1).saturating_sub(self.leases.count());
        let mut places = Places { together: count(together), ..Places::default() };
        for kind in self.hungry.iter().filter_map(|name| self.worker.kinds.get(name)) {
            let free = kind.at_once.saturating_sub(self.leases.count_of(kind.name)).min(together);
            if free > 0 {
                places.kinds.push(kind.name.to_owned());
                places.of_kind.push(count(free));
            }
        }
        places
    }

    async fn claim(&mut self, places: &Places, shutdown: &CancellationToken) -> sqlx::Result<()> {
        let from = std::time::Instant::now();
        let held = self.leases.ids();
        let claim = pg::within(STATEMENT, self.queue.claim(places, &held));
        let too_late = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        let claimed = tokio::select! {
            claimed = claim => claimed?,
            () = too_late => return Ok(()),
        };
        let all_taken = count(claimed.len()) >= places.together;
        for (name, free) in places.kinds.iter().zip(&places.of_kind) {
            let taken = claimed.iter().filter(|job| job.kind == *name).count();
            if !all_taken && count(taken) < *free {
                self.hungry.remove(name.as_str());
            }
        }
        for job in claimed {
            self.start(job, from);
        }
        Ok(())
    }

    fn start(&mut self, job: Claimed, from: std::time::Instant) {
        let Some(kind) = self.worker.kinds.get(job.kind.as_str()).cloned() else { return };
        let lease = self.leases.hold(job.id, kind.name, from, self.queue.lease);
        let (queue, instruments) = (self.queue.clone(), Arc::clone(&self.worker.instruments));
        let steps = self.worker.steps.clone();
        self.running.spawn(Attempt { queue, instruments, steps, kind, job }.make(lease));
    }

    /// Waits for what runs, and gives back what does not end.
    async fn end(mut self) {
        let all = async { while self.running.join_next().await.is_some() {} };
        let drained = timeout(self.worker.options.drain, all).await.is_ok();
        // What is given back must have ended, or two have it. A job that blocks its thread can't be ended.
        if !drained && timeout(GRACE, self.running.shutdown()).await.is_err() {
            tracing::warn!("a job does not end, and may be run elsewhere meanwhile");
        }
        match pg::within(GRACE, self.queue.release()).await {
            Ok(released) => tracing::info!(drained, released, "no more jobs are run"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "jobs could not be given back; they wait until their lease is over"
            ),
        }
    }
}

/// Renews the leases of what runs, and tells what was lost.
async fn keep(queue: &Queue, leases: &Leases) {
    let every = queue.lease / 3;
    let mut wait = every;
    loop {
        sleep(wait).await;
        wait = every;
        let (asked, from) = (leases.ids(), std::time::Instant::now());
        if asked.is_empty() {
            continue;
        }
        match pg::within(every, queue.renew(&asked)).await {
            Ok(renewed) => leases.renewed(&asked, &renewed, from, queue.lease),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the leases of jobs that run could not be renewed");
                leases.expire();
                wait = every.min(BACKOFF);
            }
        }
    }
}

async fn measure(queue: &Queue, worker: &Worker) {
    // What was seen once is said to be gone when it is.
    let mut seen: HashSet<String> = worker.kinds.keys().map(|name| (*name).to_owned()).collect();
    loop {
        match pg::within(STATEMENT, queue.measure()).await {
            Ok(depths) => {
                for kind in &seen {
                    if !depths.iter().any(|depth| depth.kind == *kind) {
                        worker.instruments.measured(kind, &Depth::default());
                    }
                }
                for depth in depths {
                    worker.instruments.measured(&depth.kind, &depth);
                    seen.insert(depth.kind);
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "jobs could not be counted");
            }
        }
        sleep(MEASURE).await;
    }
}

fn count(places: usize) -> i64 {
    i64::try_from(places).unwrap_or(i64::MAX)
}
