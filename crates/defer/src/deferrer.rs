use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use opentelemetry::metrics::Meter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Span;

use crate::instruments::Instruments;
use crate::scope::Scope;
use crate::task::Task;

/// Options of deferred tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Time limit of a task. Default 5 s.
    pub time_limit: Duration,
    /// Maximum number of running tasks of a label; further ones wait. Default 16.
    pub max_running: usize,
    /// Maximum number of waiting tasks of a label; further ones are dropped, counted and logged.
    /// Default 256.
    pub max_waiting: usize,
    /// Maximum number of passes in which tasks of a scope may defer further ones. Default 4.
    pub max_passes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(5),
            max_running: 16,
            max_waiting: 256,
            max_passes: 4,
        }
    }
}

/// Runs deferred tasks; create one per process. Clones share it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use opentelemetry::metrics::{MeterProvider, noop::NoopMeterProvider};
/// # let meter = NoopMeterProvider::new().meter("example");
/// use std::time::Duration;
///
/// use defer::{Deferrer, Ended, Options};
///
/// let options = Options { time_limit: Duration::from_secs(1), ..Options::default() };
/// let deferrer = Deferrer::new(options, &meter);
///
/// let scope = deferrer.scope(); // for one consumed message
/// scope.defer().run("inventory sync", async { /* tell a third party */ });
/// scope.end(Ended::Well); // starts the task
///
/// let drained = deferrer.drain(Duration::from_secs(3)).await; // at shutdown
/// assert_eq!(drained.dropped, 0);
/// # }
/// ```
#[derive(Clone)]
pub struct Deferrer {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    instruments: Instruments,
    labels: Mutex<HashMap<&'static str, Arc<Label>>>,
    tracker: TaskTracker,
    /// Requests whose responses have not been sent. Their clients may have disconnected.
    requests: TaskTracker,
    shutdown: CancellationToken,
    dropped: AtomicU64,
}

/// The tasks of one label. An unavailable target fills only these limits.
struct Label {
    permits: Semaphore,
    waiting: AtomicUsize,
}

/// Result of draining.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Number of tasks dropped since the creation of the deferrer, including those at the end.
    pub dropped: u64,
}

impl Deferrer {
    /// Creates a deferrer that records its metrics with `meter`.
    pub fn new(options: Options, meter: &Meter) -> Self {
        let shared = Shared {
            options,
            instruments: Instruments::new(meter),
            labels: Mutex::default(),
            tracker: TaskTracker::new(),
            requests: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            dropped: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Creates a scope, for a consumed message or another unit of work. The layer creates those of
    /// requests.
    pub fn scope(&self) -> Scope {
        Scope::new(self.clone())
    }

    /// Waits for requests whose responses have not been sent and for the tasks of all ended scopes,
    /// together for `at_most`, then drops the rest of the tasks. Call it when no more requests
    /// arrive. If the future is dropped, the tasks continue, and it may be called again.
    pub async fn drain(&self, at_most: Duration) -> Drained {
        self.shared.requests.close();
        self.shared.tracker.close();
        let ended = async {
            self.shared.requests.wait().await;
            self.shared.tracker.wait().await;
        };
        if tokio::time::timeout(at_most, ended).await.is_err() {
            self.shared.shutdown.cancel();
            self.shared.tracker.wait().await;
        }
        self.shared.shutdown.cancel();
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        Drained { dropped }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn instruments(&self) -> &Instruments {
        &self.shared.instruments
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.tracker.spawn(work);
    }

    /// Registers a request. A drain waits for it until the token is dropped.
    pub(crate) fn awaited(&self) -> TaskTrackerToken {
        self.shared.requests.token()
    }

    /// Waits until no task runs.
    pub(crate) async fn idle(&self) {
        while !self.shared.tracker.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn dropped(&self, label: &'static str, why: &str) {
        tracing::warn!(task = label, why, "deferred task dropped");
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        self.shared.instruments.dropped(label);
    }

    /// Runs a task within the limits of its label.
    pub(crate) async fn run(&self, task: Task) {
        let label = task.label;
        let work = async {
            let tasks = self.label(label);
            let Ok(_permit) = tasks.admit(self.shared.options.max_waiting, self, label).await
            else {
                return self.dropped(label, "too many tasks of its label wait");
            };
            let limit = task.time_limit.unwrap_or(self.shared.options.time_limit);
            self.attempt(label, limit, task.work).await;
        };
        if self.shared.shutdown.run_until_cancelled(work).await.is_none() {
            self.dropped(label, "the process shuts down");
        }
    }

    async fn attempt(
        &self,
        label: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>,
    ) {
        let instruments = &self.shared.instruments;
        let _running = instruments.running(label);
        let began = Instant::now();
        let ended = tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await;
        instruments.ran(label, began.elapsed());
        match ended {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => {
                let error = &*error as &dyn std::error::Error;
                tracing::warn!(error, "deferred task failed");
                Span::current().record("error", error);
                instruments.failed(label);
            }
            Ok(Err(panic)) => {
                tracing::error!(panic = panic_message(panic.as_ref()), "deferred task panicked");
                Span::current().record("error", "it panicked");
                instruments.failed(label);
            }
            Err(_) => {
                tracing::warn!(?limit, "deferred task timed out");
                Span::current().record("error", "it took too long");
                instruments.timed_out(label);
            }
        }
        Span::current().record("otel.status_code", "ERROR");
    }

    fn label(&self, label: &'static str) -> Arc<Label> {
        let mut labels = self.shared.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Label {
            permits: Semaphore::new(self.shared.options.max_running),
            waiting: AtomicUsize::new(0),
        };
        Arc::clone(labels.entry(label).or_insert_with(|| Arc::new(new())))
    }
}

/// Error of a label with too many waiting tasks.
struct Full;

impl Label {
    async fn admit(
        &self,
        max_waiting: usize,
        deferrer: &Deferrer,
        label: &'static str,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, Full> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let room = |waiting| (waiting < max_waiting).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Full);
        }
        let _counted = deferrer.shared.instruments.waiting(label);
        let _waits = WaitingGuard(&self.waiting);
        self.permits.acquire().await.map_err(|_| Full)
    }
}

/// Counts a waiting task until dropped.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("nothing")
}

impl std::fmt::Debug for Deferrer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deferrer").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
