use std::sync::Arc;

use tokio::sync::Notify;

/// Tells the worker of this process that jobs were committed.
#[derive(Clone, Debug, Default)]
pub struct WorkerWaker(Arc<Notify>);

impl WorkerWaker {
    /// After a commit. Cheap, and never wrong: many wake-ups are one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
