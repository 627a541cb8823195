use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::status::{Held, Status};

/// The first wait, doubled up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits for a database that is unavailable, longer each time, and shows it in the status meanwhile.
pub(crate) struct Wait<'a> {
    status: &'a Status,
    shutdown: &'a CancellationToken,
    next: Duration,
    held: Option<Held>,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(status: &'a Status, shutdown: &'a CancellationToken) -> Self {
        Self { status, shutdown, next: FIRST, held: None }
    }

    /// Waits. Returns `false` if shutdown came first.
    pub(crate) async fn once_more(&mut self) -> bool {
        self.held.get_or_insert_with(|| self.status.wait());
        let wait = tokio::time::sleep(self.next);
        self.next = (self.next * 2).min(LONGEST);
        self.shutdown.run_until_cancelled(wait).await.is_some()
    }
}
