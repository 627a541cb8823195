use crate::defer::Defer;
use crate::task::{Deferred, TaskResult, Tasks};

/// Tasks tied to a transaction: they are deferred after its commit. If this is dropped without a
/// commit, they never run.
pub struct Held {
    defer: Defer,
    tasks: Tasks,
}

impl Held {
    pub(crate) fn new(defer: Defer) -> Self {
        Self { defer, tasks: Tasks::default() }
    }

    /// Holds a task, see [`Defer::run`]. It is deferred after the commit.
    pub fn run<O: TaskResult>(
        &self,
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Deferred<'_> {
        self.tasks.push(label, work).unwrap_or(Deferred { of: None })
    }

    /// Cancels the task that was held under a name.
    pub fn forget(&self, name: &str) {
        self.tasks.forget(name);
    }

    /// Defers the tasks. Call it after the commit.
    pub fn committed(self) {
        self.defer.adopt(self.tasks.take());
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}
