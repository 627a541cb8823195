use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::queue::Ticket;
use super::{MAX_WAIT, Shared, WriteError, Written};

/// A change's place in the queue. Dropped, it withdraws the change.
pub(super) struct Place {
    shared: Arc<Shared>,
    ticket: Ticket,
    outcome: oneshot::Receiver<Written>,
}

impl Place {
    pub(super) fn new(
        shared: Arc<Shared>,
        ticket: Ticket,
        outcome: oneshot::Receiver<Written>,
    ) -> Self {
        Self { shared, ticket, outcome }
    }

    /// Waits for the outcome. Withdraws the change if it is not sent in time, or when its caller is gone. The outcome of what
    /// was sent is waited for: its statement has a time limit.
    pub(super) async fn wait(mut self, gone: impl Future<Output = ()>) -> Written {
        let mut gone = pin!(gone);
        let mut is_gone = false;
        loop {
            let reason = tokio::select! {
                biased;
                told = &mut self.outcome => {
                    let crashed = |_| WriteError::Database(Arc::new(sqlx::Error::WorkerCrashed));
                    return told.map_err(crashed)?;
                }
                () = &mut gone, if !is_gone => {
                    is_gone = true;
                    WriteError::CallerLeft
                }
                // Again and again: a statement may leave it out, and it waits for another one.
                () = tokio::time::sleep(MAX_WAIT) => {
                    WriteError::Database(Arc::new(sqlx::Error::PoolTimedOut))
                }
            };
            if self.shared.withdraw(self.ticket) {
                return Err(reason);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // First: a statement that leaves the change out from now on sees that nobody waits.
        self.outcome.close();
        self.shared.withdraw(self.ticket);
    }
}
