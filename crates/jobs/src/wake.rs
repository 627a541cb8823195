use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the worker of this process after a commit.
#[derive(Clone, Debug, Default)]
pub struct WorkerWaker(Arc<Notify>);

impl WorkerWaker {
    /// Wakes the worker. Call it after a commit; it is cheap, and several calls have the effect of
    /// one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
