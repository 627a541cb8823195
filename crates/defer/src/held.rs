use crate::defer::Defer;
use crate::task::{Deferred, TaskResult, Tasks};

/// Tasks tied to a transaction: they are deferred when it has committed. Dropped, as when it rolls back, they never
/// run.
pub struct Held {
    defer: Defer,
    tasks: Tasks,
}

impl Held {
    pub(crate) fn new(defer: Defer) -> Self {
        Self { defer, tasks: Tasks::default() }
    }

    /// As [`Defer::run`], if there is a commit.
    pub fn run<O: TaskResult>(
        &self,
        label: &'static str,
        work: impl Future<Output = O> + Send + 'static,
    ) -> Deferred<'_> {
        self.tasks.push(label, work).unwrap_or(Deferred { of: None })
    }

    /// Takes back what was held under a name.
    pub fn forget(&self, name: &str) {
        self.tasks.forget(name);
    }

    /// To be called after the commit.
    pub fn committed(self) {
        self.defer.adopt(self.tasks.take());
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}
