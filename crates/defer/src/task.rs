use std::borrow::Cow;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Span;

type Failure = Box<dyn Error + Send + Sync>;

/// Result of a task: nothing, or a `Result` whose error is logged.
pub trait TaskResult: Send + 'static {
    /// Converts into a `Result`.
    ///
    /// # Errors
    /// Fails if the task failed.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl TaskResult for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: Into<Failure> + Send + 'static> TaskResult for Result<(), E> {
    fn into_result(self) -> Result<(), Failure> {
        self.map_err(Into::into)
    }
}

/// A task that waits for the end of its scope.
pub(crate) struct Task {
    /// Name in logs and metrics; tasks with the same label share limits.
    pub(crate) label: &'static str,
    /// Name within its scope: of tasks with the same name only the last runs.
    pub(crate) name: Option<Cow<'static, str>>,
    /// Runs even if the scope ended badly.
    pub(crate) always: bool,
    /// `None` uses the limit of the options.
    pub(crate) time_limit: Option<Duration>,
    pub(crate) work: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
    /// The span in which it was deferred.
    pub(crate) cause: Span,
    /// Whether it has a span, and so is visible in traces and flows.
    pub(crate) has_span: bool,
    id: u64,
}

impl Task {
    fn new<O: TaskResult>(
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
        id: u64,
    ) -> Self {
        let work = Box::pin(async move { work.await.into_result() });
        let cause = Span::current();
        Self { label, name: None, always: false, time_limit: None, work, cause, has_span: true, id }
    }

    /// Creates a task outside of a scope.
    pub(crate) fn alone<O: TaskResult>(
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Self {
        Self::new(label, work, 0)
    }
}

/// Waiting tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Backlog>,
}

#[derive(Default)]
struct Backlog {
    tasks: Vec<Task>,
    next_id: u64,
    /// `true` if no more tasks are accepted.
    is_over: bool,
}

impl Tasks {
    /// Adds a task. Returns `None`, and drops the task, if the scope is closed.
    pub(crate) fn push<O: TaskResult>(
        &self,
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Option<Deferred<'_>> {
        let mut waiting = self.lock();
        if waiting.is_over {
            return None;
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        waiting.tasks.push(Task::new(label, work, id));
        Some(Deferred { of: Some((self, id)) })
    }

    /// Adds tasks in order. Returns those that came after the scope was closed.
    pub(crate) fn push_all(&self, tasks: Vec<Task>) -> Vec<Task> {
        let mut waiting = self.lock();
        if waiting.is_over {
            return tasks;
        }
        for mut task in tasks {
            if let Some(name) = task.name.clone() {
                waiting.forget(&name);
            }
            task.id = waiting.next_id;
            waiting.next_id += 1;
            waiting.tasks.push(task);
        }
        Vec::new()
    }

    pub(crate) fn forget(&self, name: &str) {
        self.lock().forget(name);
    }

    pub(crate) fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.lock().tasks)
    }

    /// Takes the remaining tasks and accepts no more.
    pub(crate) fn close(&self) -> Vec<Task> {
        let mut waiting = self.lock();
        waiting.is_over = true;
        std::mem::take(&mut waiting.tasks)
    }

    /// Closes if no task waits. Returns `false` otherwise.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_over = waiting.tasks.is_empty();
        waiting.is_over
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backlog {
    fn forget(&mut self, name: &str) {
        self.tasks.retain(|task| task.name.as_deref() != Some(name));
    }
}

/// Options of a task that was just deferred.
pub struct Deferred<'a> {
    /// `None` if the scope is closed or the task is already running.
    pub(crate) of: Option<(&'a Tasks, u64)>,
}

// The result of the last setter is normally unused.
#[allow(clippy::return_self_not_must_use)]
impl Deferred<'_> {
    /// Runs the task even if the response is an error (400 or more) or the scope ended badly.
    pub fn always(self) -> Self {
        self.change(|task| task.always = true)
    }

    /// Sets a name within the scope: earlier tasks of that name do not run.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        if let Some((tasks, _)) = self.of {
            tasks.forget(&name);
        }
        self.change(|task| task.name = Some(name))
    }

    /// Sets the task's time limit.
    pub fn time_limit(self, limit: Duration) -> Self {
        self.change(|task| task.time_limit = Some(limit))
    }

    /// Runs the task without a span, for work that is cheaper than its span. It appears in no trace
    /// or flow, and its log lines have no ids.
    pub fn without_span(self) -> Self {
        self.change(|task| task.has_span = false)
    }

    fn change(self, change: impl FnOnce(&mut Task)) -> Self {
        if let Some((tasks, id)) = self.of
            && let Some(task) = tasks.lock().tasks.iter_mut().find(|task| task.id == id)
        {
            change(task);
        }
        self
    }
}

impl std::fmt::Debug for Deferred<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}
