use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::queue::Ticket;
use super::{MAX_WAIT, WriteError, WriterState, Written};

/// A change in the queue. Dropping it withdraws the change.
pub(super) struct QueueEntry {
    state: Arc<WriterState>,
    ticket: Ticket,
    outcome: oneshot::Receiver<Written>,
}

impl QueueEntry {
    pub(super) fn new(
        state: Arc<WriterState>,
        ticket: Ticket,
        outcome: oneshot::Receiver<Written>,
    ) -> Self {
        Self { state, ticket, outcome }
    }

    /// Waits for the outcome. Withdraws the change if it is not sent in time, or if its caller is
    /// gone. Once it is sent, the outcome is awaited, since the statement has a time limit.
    pub(super) async fn wait(mut self, disconnected: impl Future<Output = ()>) -> Written {
        let mut disconnected = pin!(disconnected);
        let mut is_disconnected = false;
        loop {
            let reason = tokio::select! {
                biased;
                written = &mut self.outcome => {
                    let crashed = |_| WriteError::Database(Arc::new(sqlx::Error::WorkerCrashed));
                    return written.map_err(crashed)?;
                }
                () = &mut disconnected, if !is_disconnected => {
                    is_disconnected = true;
                    WriteError::CallerLeft
                }
                // Repeated, because a statement may leave the change out, which then waits for
                // another statement.
                () = tokio::time::sleep(MAX_WAIT) => {
                    WriteError::Database(Arc::new(sqlx::Error::PoolTimedOut))
                }
            };
            if self.state.withdraw(self.ticket) {
                return Err(reason);
            }
        }
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        // Closed first, so that a statement that leaves the change out from now on does not queue
        // it again.
        self.outcome.close();
        self.state.withdraw(self.ticket);
    }
}
