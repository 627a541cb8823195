use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are cancelled together and awaited together.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Returns the token whose cancellation ends the tasks.
    pub(super) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Spawns a task. It must end when the [token](Self::shutdown) is cancelled.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Spawns a task, and cancels `panicked` if it panics: without the task the service would look
    /// healthy and do nothing.
    pub(super) fn spawn_vital(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
        panicked: &CancellationToken,
    ) {
        let panicked = panicked.clone();
        self.tracker.spawn(async move {
            if let Err(error) = tokio::spawn(task).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, task = name, "task panicked");
                panicked.cancel();
            }
        });
    }

    /// Requests all tasks to end.
    pub(super) fn cancel(&self) {
        self.shutdown.cancel();
        self.tracker.close();
    }

    /// Waits until every task has ended. Call [`cancel`](Self::cancel) first.
    pub(super) async fn wait(&self) {
        self.tracker.wait().await;
    }
}
