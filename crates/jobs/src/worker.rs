use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::claim::Claim;
use crate::handler::{Handler, Kind};
use crate::instruments::Instruments;
use crate::leases::Leases;
use crate::options::Options;
use crate::pace::Pace;
use crate::queue::{Claimed, Depth, Fence, Queue};
use crate::removals::Removals;
use crate::slots::{Busy, Lane, Slots, column};
use crate::suspects::Suspect;
use crate::wake::WorkerWaker;

/// Time limit of a statement: a connection can be lost silently.
const STATEMENT: Duration = Duration::from_secs(10);
/// Wait before the next attempt while the database is unavailable.
const BACKOFF: Duration = Duration::from_secs(1);
/// Time limit of each final statement at shutdown.
const GRACE: Duration = Duration::from_secs(1);
/// How long a claim waits for another job to end.
const GATHER: Duration = Duration::from_millis(1);
/// Interval of the measurements of depth and age.
const MEASURE: Duration = Duration::from_secs(5);

/// Runs the jobs of one database. Every instance of a service runs one, and they share the jobs.
///
/// ```no_run
/// # use telemetry::instruments::Meter;
/// # async fn example<H: jobs::Handler>(pool: sqlx::PgPool, mailer: H, meter: Meter) {
/// use jobs::{Options, Worker, WorkerWaker};
/// use tokio_util::sync::CancellationToken;
///
/// let (wake, shutdown) = (WorkerWaker::default(), CancellationToken::new());
/// let worker = Worker::new(pool, wake.clone(), &meter)
///     .options(Options { concurrency: 16, ..Options::default() })
///     .handle(mailer);
/// let running = tokio::spawn(worker.run(shutdown.clone()));
/// wake.wake(); // after each commit that enqueued jobs
/// shutdown.cancel(); // waits for running jobs, and releases those that do not end
/// running.await.unwrap();
/// # }
/// ```
pub struct Worker {
    pool: PgPool,
    wake: WorkerWaker,
    options: Options,
    kinds: HashMap<&'static str, Kind>,
    instruments: Arc<Instruments>,
    steps: FlowSteps,
}

impl Worker {
    /// Creates a worker. `pool` is the service's migrated database; `wake` is the waker used after
    /// enqueuing.
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

    /// Sets other options than the default ones.
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

    /// Adds the handler of a kind of job. Kinds without a handler are left to instances that have
    /// one.
    ///
    /// # Panics
    /// Panics if the kind already has a handler, because one of them would never be called.
    #[must_use]
    pub fn handle<H: Handler>(mut self, handler: H) -> Self {
        let kind = Kind::of(handler);
        let name = kind.name;
        self.instruments.begin(name);
        let before = self.kinds.insert(name, kind);
        assert!(before.is_none(), "there are two handlers for {name}");
        self
    }

    /// Runs until `shutdown` is cancelled. Waits while the database is unavailable. At shutdown it
    /// waits for running jobs up to [`Options::drain`], then drops and releases the rest.
    ///
    /// Dropping the future has the effect of a killed process: running jobs are dropped at their
    /// current await point without being released, and run again once their leases have expired.
    pub async fn run(self, shutdown: CancellationToken) {
        let queue = Queue::new(self.pool.clone(), self.options.lease);
        let leases = Leases::default();
        tracing::info!(worker = %queue.worker, kinds = ?self.kinds.keys(), "worker started");
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
    removals: Removals,
    leases: &'a Leases,
    /// Kinds with possibly more due jobs than were claimed.
    hungry: HashSet<&'static str>,
    rounds: HashMap<&'static str, Round>,
    /// The last claim could have been [a plain one](Queue::claim_plain): jobs without tenant and
    /// lane took all slots.
    is_plain: bool,
    suspects: Suspects,
    /// Running jobs. Each returns its kind if its lane was limited. Aborted on drop.
    running: JoinSet<Option<&'static str>>,
}

/// Position in a kind's lanes, if they are too many for one claim.
#[derive(Default)]
struct Round {
    after: Lane,
    has_claimed: bool,
}

/// State of the suspects, which run alone.
struct Suspects {
    kinds: Vec<String>,
    are_due: bool,
    pace: Pace,
    /// A suspect that ran alone for its window without harm and has to be cleared.
    harmless: Option<Fence>,
    /// Since when the database has answered.
    in_contact_since: Instant,
}

impl Suspects {
    /// Returns when the next suspect may run, at most until the next poll.
    fn next_turn(&self, next_poll: Instant) -> Instant {
        if self.are_due { self.pace.not_before().min(next_poll) } else { next_poll }
    }
}

impl<'a> Loop<'a> {
    fn new(worker: &'a Worker, queue: &'a Queue, leases: &'a Leases) -> Self {
        let now = Instant::now();
        let kinds = worker.kinds.keys().map(|kind| (*kind).to_owned()).collect();
        let suspects = Suspects {
            kinds,
            are_due: false,
            pace: Pace::new(worker.options.alone, now),
            harmless: None,
            in_contact_since: now,
        };
        let (hungry, rounds, running) = <_>::default();
        let removals = Removals::new(queue.clone());
        Self { worker, queue, removals, leases, hungry, rounds, is_plain: false, suspects, running }
    }

    async fn run(mut self, shutdown: &CancellationToken) {
        let mut next_poll = Instant::now();
        while !shutdown.is_cancelled() {
            while let Some(ended) = self.running.try_join_next() {
                self.has_ended(ended);
            }
            let turn = self.turn(&mut next_poll, shutdown).await;
            match turn {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "database unavailable, retrying to claim jobs"
                    );
                    shutdown.run_until_cancelled(sleep(BACKOFF)).await;
                    self.suspects.in_contact_since = Instant::now();
                    continue;
                }
            }
            tokio::select! {
                () = self.worker.wake.woken() => self.hungry.extend(self.worker.kinds.keys()),
                Some(ended) = self.running.join_next() => self.has_ended(ended),
                () = self.leases.one_has_run() => {}
                () = sleep_until(self.suspects.next_turn(next_poll)) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.end().await;
    }

    /// Returns the slots to claim for. While fewer than half of the slots of the hungry kinds are
    /// free, it waits for other jobs to end, until none does for a moment. Then it lets those end
    /// that are about to: a claim takes about as long for many jobs as for one.
    async fn gather(&mut self, shutdown: &CancellationToken) -> Slots {
        let mut before = None;
        loop {
            let slots = self.slots();
            if slots.kinds.is_empty() || shutdown.is_cancelled() {
                return slots;
            }
            if self.are_half(&slots) {
                let free = slots.of_kind.iter().sum::<i64>();
                if before.is_some_and(|before| free <= before) {
                    return slots;
                }
                before = Some(free);
                yield_now().await;
                while let Some(ended) = self.running.try_join_next() {
                    self.has_ended(ended);
                }
                continue;
            }
            tokio::select! {
                Some(ended) = self.running.join_next() => self.has_ended(ended),
                () = self.leases.one_has_run() => {}
                () = sleep(GATHER) => return slots,
            }
        }
    }

    /// Returns `true` if at least half of the slots of the hungry kinds are free.
    fn are_half(&self, free: &Slots) -> bool {
        let hungry = self.hungry.iter().filter_map(|name| self.worker.kinds.get(name));
        let slots: usize = hungry.map(|kind| kind.at_once).sum();
        free.of_kind.iter().sum::<i64>() * 2 >= column(slots.min(self.worker.options.concurrency))
    }

    /// Claims jobs for the free slots. Returns `false` if there is nothing to claim now.
    async fn turn(
        &mut self,
        next_poll: &mut Instant,
        shutdown: &CancellationToken,
    ) -> sqlx::Result<bool> {
        self.clear_suspect().await?;
        if Instant::now() >= *next_poll {
            self.hungry.extend(self.worker.kinds.keys());
            *next_poll = Instant::now() + self.worker.options.poll;
            self.recover().await?;
        }
        if self.suspects.are_due && Instant::now() >= self.suspects.pace.not_before() {
            let began = Instant::now();
            let ran = self.run_suspects(shutdown).await;
            self.suspects.pace.held_up(began, Instant::now());
            ran?;
            self.clear_suspect().await?;
        }
        let slots = self.gather(shutdown).await;
        if slots.kinds.is_empty() {
            return Ok(false);
        }
        self.claim(&slots, shutdown).await?;
        Ok(true)
    }

    /// Marks the kind of an ended job as hungry, if any: a full lane may have more jobs.
    fn has_ended(&mut self, ended: Result<Option<&'static str>, JoinError>) {
        self.hungry.extend(ended.ok().flatten());
    }

    /// Returns the slots for the hungry kinds.
    fn slots(&self) -> Slots {
        let occupied = self.worker.kinds.values().map(|kind| self.leases.count_of(kind)).sum();
        let together = self.worker.options.concurrency.max(1).saturating_sub(occupied);
        let busy = Busy::of(self.leases.of_lanes());
        let mut claimable = Slots { together: column(together), busy, ..Slots::default() };
        for kind in self.hungry.iter().filter_map(|name| self.worker.kinds.get(name)) {
            let free = kind.at_once.saturating_sub(self.leases.count_of(kind)).min(together);
            if free > 0 {
                let round = self.rounds.get(kind.name);
                let after = round.map_or_else(Lane::default, |round| round.after.clone());
                claimable.add(kind, free, after);
            }
        }
        claimable
    }

    async fn claim(&mut self, asked: &Slots, shutdown: &CancellationToken) -> sqlx::Result<()> {
        let from = std::time::Instant::now();
        let is_plain = self.is_plain && asked.are_independent();
        let claim = pg::within(STATEMENT, async {
            if is_plain {
                let jobs = self.queue.claim_plain(asked).await?;
                Ok(Claim { jobs, cut: Vec::new() })
            } else {
                self.queue.claim(asked).await
            }
        });
        let too_late = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        let Claim { jobs, cut } = tokio::select! {
            claimed = claim => claimed?,
            () = too_late => return Ok(()),
        };
        self.is_plain = asked.are_filled_by(&jobs);
        let all_taken = column(jobs.len()) >= asked.together;
        for (name, free) in asked.kinds.iter().zip(&asked.of_kind) {
            let taken = jobs.iter().filter(|job| job.kind == *name).count();
            let after = cut.iter().find(|(kind, _)| kind == name).map(|(_, lane)| lane.clone());
            if let Some(kind) = self.worker.kinds.get(name.as_str()) {
                let round = self.rounds.entry(kind.name).or_default();
                if is_plain {
                    // The claim read no lane, so the kind stays hungry.
                    round.has_claimed |= taken > 0;
                    continue;
                }
                let may_have_more = round.go_on(taken, after);
                if !may_have_more && !all_taken && column(taken) < *free {
                    self.hungry.remove(kind.name);
                }
            }
        }
        for job in jobs {
            self.start(job, from);
        }
        Ok(())
    }

    fn start(&mut self, job: Claimed, from: std::time::Instant) {
        let Some(kind) = self.worker.kinds.get(job.kind.as_str()).cloned() else { return };
        let lane = job.lane();
        let limited = lane.is_limited().then_some(kind.name);
        let lease = self.leases.hold(job.id, (kind.name, lane), from, self.queue.lease);
        let (queue, instruments) = (self.queue.clone(), Arc::clone(&self.worker.instruments));
        let (steps, removals) = (self.worker.steps.clone(), self.removals.clone());
        let attempt = Attempt { queue, removals, instruments, steps, kind, job };
        self.running.spawn(async move {
            attempt.make(lease).await;
            limited
        });
    }

    /// Recovers jobs whose worker died. A worker that had no database connection for long could not
    /// have seen the renewals of others.
    async fn recover(&mut self) -> sqlx::Result<()> {
        let of_others = self.suspects.in_contact_since.elapsed() >= self.queue.lease / 2;
        let held = self.leases.ids();
        let recover = self.queue.recover(&self.suspects.kinds, &held, of_others);
        self.suspects.are_due = pg::within(STATEMENT, recover).await?;
        Ok(())
    }

    /// Runs suspects one after another while nothing else runs, until one does not end in its
    /// window or the time is used up.
    async fn run_suspects(&mut self, shutdown: &CancellationToken) -> sqlx::Result<()> {
        // The next poll finds out whether there are more.
        self.suspects.are_due = false;
        let (wait, began) = (self.suspects.pace.wait(), Instant::now());
        if !self.is_idle_within(wait, shutdown).await {
            tracing::debug!(waited = ?wait, "suspect jobs postponed, other jobs are running");
            self.suspects.pace.lengthen_wait();
            return Ok(());
        }
        self.suspects.pace.shorten_wait();
        let until = Instant::now() + self.suspects.pace.budget(began.elapsed());
        while self.run_suspect(shutdown).await? && Instant::now() < until {}
        Ok(())
    }

    /// Runs one suspect while nothing else runs, and starts nothing else for its window. Returns
    /// `true` if it has ended.
    async fn run_suspect(&mut self, shutdown: &CancellationToken) -> sqlx::Result<bool> {
        let from = std::time::Instant::now();
        let claim = self.queue.claim_suspect(&self.suspects.kinds);
        let Some(Suspect { job, suspicions }) = pg::within(STATEMENT, claim).await? else {
            return Ok(false);
        };
        let (window, fence) = (self.suspects.pace.window(suspicions), job.fence());
        tracing::info!(
            job.id = %fence.id,
            job.kind = job.kind,
            ?window,
            "suspect job started alone, its worker died"
        );
        self.start(job, from);
        let has_ended = self.is_idle_within(window, shutdown).await;
        if !has_ended && !shutdown.is_cancelled() {
            self.suspects.harmless = Some(fence);
        }
        Ok(has_ended)
    }

    /// Clears a suspect that ran alone for its window, before others start, since any of them may
    /// then kill the worker.
    async fn clear_suspect(&mut self) -> sqlx::Result<()> {
        if let Some(job) = &self.suspects.harmless {
            pg::within(STATEMENT, self.queue.clear_suspect(job)).await?;
            self.suspects.harmless = None;
        }
        Ok(())
    }

    /// Waits until nothing runs. Returns `false` if that takes longer than `limit`.
    async fn is_idle_within(&mut self, limit: Duration, shutdown: &CancellationToken) -> bool {
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                self.hungry.extend(ended.ok().flatten());
            }
        };
        matches!(shutdown.run_until_cancelled(timeout(limit, all)).await, Some(Ok(())))
    }

    /// Waits for running jobs, and releases those that do not end.
    async fn end(mut self) {
        let all = async { while self.running.join_next().await.is_some() {} };
        let drained = timeout(self.worker.options.drain, all).await.is_ok();
        // A released job must have ended, or two workers would run it. A job that blocks its thread
        // can't be ended.
        if !drained && timeout(GRACE, self.running.shutdown()).await.is_err() {
            tracing::warn!("job still running at shutdown, another worker may run it");
        }
        match pg::within(GRACE, self.queue.release()).await {
            Ok(released) => tracing::info!(drained, released, "worker stopped"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "jobs not released, they wait until their leases expire"
            ),
        }
    }
}

impl Round {
    /// Records a claim of `taken` jobs that read no lane after `cut_after`. Returns `true` if lanes
    /// that were not read may have more jobs although slots were left.
    fn go_on(&mut self, taken: usize, cut_after: Option<Lane>) -> bool {
        self.has_claimed |= taken > 0;
        let began_within = self.after.is_limited();
        let is_cut = cut_after.is_some();
        self.after = cut_after.unwrap_or_default();
        // Starts again at the end, unless a whole round claimed nothing.
        is_cut || began_within && std::mem::take(&mut self.has_claimed)
    }
}

/// Renews the leases of running jobs, and cancels jobs whose lease was lost.
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
            Ok(kept) => {
                leases.renewed(&asked, &kept, from, queue.lease);
                if kept.iter().any(|it| !it.is_renewed) {
                    leases.expire();
                    wait = every.min(BACKOFF);
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "leases of running jobs not renewed, retrying");
                leases.expire();
                wait = every.min(BACKOFF);
            }
        }
    }
}

async fn measure(queue: &Queue, worker: &Worker) {
    // A kind that was seen once is reported as 0 when it is gone.
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
                tracing::debug!(error, "jobs not counted");
            }
        }
        sleep(MEASURE).await;
    }
}
