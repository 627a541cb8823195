use std::borrow::Cow;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Span;

type Failure = Box<dyn Error + Send + Sync>;

/// What a task gives: nothing, or a result whose error is reported.
pub trait TaskResult: Send + 'static {
    /// The error, if it failed.
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

/// A piece of work that waits for its scope to end.
pub(crate) struct Task {
    /// What it is, in logs and metrics; its limits are those of all tasks called so.
    pub(crate) label: &'static str,
    /// Tells it from others in its scope: of those with the same one only the last runs.
    pub(crate) name: Option<Cow<'static, str>>,
    /// It runs also when the scope failed.
    pub(crate) always: bool,
    /// None: as the options have it.
    pub(crate) time_limit: Option<Duration>,
    pub(crate) work: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
    /// In which it was deferred.
    pub(crate) cause: Span,
    /// It is seen in traces and flows.
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

    /// One that waits for nothing.
    pub(crate) fn alone<O: TaskResult>(
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Self {
        Self::new(label, work, 0)
    }
}

/// Tasks that wait.
#[derive(Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    tasks: Vec<Task>,
    next_id: u64,
    /// Nothing is run any more.
    is_over: bool,
}

impl Tasks {
    /// None: it is too late, and the task is gone.
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

    /// As if they had been deferred here one after the other. Gives back those that came too late.
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

    /// Takes the last ones: none comes after them.
    pub(crate) fn close(&self) -> Vec<Task> {
        let mut waiting = self.lock();
        waiting.is_over = true;
        std::mem::take(&mut waiting.tasks)
    }

    /// Closes if nothing waits. False: something does.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_over = waiting.tasks.is_empty();
        waiting.is_over
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn forget(&mut self, name: &str) {
        self.tasks.retain(|task| task.name.as_deref() != Some(name));
    }
}

/// A task that was just deferred, to say more about it.
pub struct Deferred<'a> {
    /// None: it was too late for it, or it runs already.
    pub(crate) of: Option<(&'a Tasks, u64)>,
}

// What is said last needs no use.
#[allow(clippy::return_self_not_must_use)]
impl Deferred<'_> {
    /// It runs also when the response is an error (400 or more), or the scope failed.
    pub fn always(self) -> Self {
        self.change(|task| task.always = true)
    }

    /// Gives it a name within its scope: earlier ones of that name do not run.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        if let Some((tasks, _)) = self.of {
            tasks.forget(&name);
        }
        self.change(|task| task.name = Some(name))
    }

    /// Another time limit than that of the options.
    pub fn time_limit(self, limit: Duration) -> Self {
        self.change(|task| task.time_limit = Some(limit))
    }

    /// Runs it without a span, for work so short that the span would cost more than the work: it is in no trace and no flow,
    /// and what it logs has no ids.
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
