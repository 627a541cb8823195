use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Instrument, Span};

use crate::defer::Defer;
use crate::deferrer::Deferrer;
use crate::task::{Task, Tasks};

/// How a scope ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All tasks run.
    Well,
    /// Only tasks deferred with `always` run.
    Badly,
}

/// The deferred tasks of one request or consumed message. They start when the scope ends,
/// independently of enclosing and nested scopes. Dropping it without [`Scope::end`] ends it badly.
pub struct Scope {
    inner: Option<Arc<Inner>>,
}

pub(crate) struct Inner {
    pub(crate) tasks: Tasks,
    pub(crate) deferrer: Deferrer,
    in_order: AtomicBool,
}

impl Scope {
    pub(crate) fn new(deferrer: Deferrer) -> Self {
        let inner = Inner { tasks: Tasks::default(), deferrer, in_order: AtomicBool::new(false) };
        Self { inner: Some(Arc::new(inner)) }
    }

    /// Returns the handle that defers tasks to this scope.
    ///
    /// # Panics
    /// Never, since only methods that consume the scope take its content.
    pub fn defer(&self) -> Defer {
        match &self.inner {
            Some(inner) => Defer::new(Arc::clone(inner)),
            None => unreachable!("a scope that has ended can't be asked"),
        }
    }

    /// Ends the scope and starts its tasks in the background.
    pub fn end(mut self, how: Ended) {
        if let Some(inner) = self.inner.take() {
            inner.begin(how);
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.begin(Ended::Badly);
        }
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scope")
    }
}

impl Inner {
    pub(crate) fn in_order(&self) {
        self.in_order.store(true, Ordering::Relaxed);
    }

    fn begin(self: Arc<Self>, how: Ended) {
        if self.tasks.close_if_empty() {
            return;
        }
        let deferrer = self.deferrer.clone();
        deferrer.spawn(async move { self.run(how).await });
    }

    /// Runs the tasks in passes: tasks deferred by a task run after all tasks of its pass.
    async fn run(&self, how: Ended) {
        for _ in 0..self.deferrer.options().max_passes {
            let (chosen, skipped): (Vec<_>, Vec<_>) =
                self.tasks.take().into_iter().partition(|task| how == Ended::Well || task.always);
            for task in skipped {
                self.deferrer.instruments().skipped(task.label);
            }
            self.run_pass(chosen).await;
            if self.tasks.close_if_empty() {
                return;
            }
        }
        for task in self.tasks.close() {
            self.deferrer.dropped(task.label, "its tasks deferred further ones in too many passes");
        }
    }

    async fn run_pass(&self, tasks: Vec<Task>) {
        if self.in_order.load(Ordering::Relaxed) {
            for task in tasks {
                self.run_task(task).await;
            }
        } else {
            futures::future::join_all(tasks.into_iter().map(|task| self.run_task(task))).await;
        }
    }

    async fn run_task(&self, mut task: Task) {
        if !task.has_span {
            task.cause = Span::none();
            return self.deferrer.run(task).await;
        }
        let span = tracing::info_span!(
            parent: None,
            "deferred",
            otel.name = format!("deferred {}", task.label),
            otel.status_code = tracing::field::Empty,
            task = task.label,
            error = tracing::field::Empty,
        );
        // Dropped at once, since the request has ended and its span has to close. But not before
        // the link to it is created, because a closed span has no context.
        let cause = std::mem::replace(&mut task.cause, Span::none());
        span.follows_from(&cause);
        drop(cause);
        self.deferrer.run(task).instrument(span).await;
    }
}
