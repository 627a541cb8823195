//! The memory that lists take while they are read and sent: a tenant's orders can make a list of some megabytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use chassis::{Limit, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Rows that are read at once, as the limits of the lists have it.
const MAX_ROWS: usize = 404;
/// KiB of lists that are sent or cached at once. One list has at most a sixth of it.
const MAX_KIB: usize = 24 * 1024;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds the memory of lists. Clones share it.
#[derive(Clone)]
pub(crate) struct ListMemory {
    rows: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    patience: Duration,
}

/// Bytes of a list. Its share of the memory is free when the last clone is dropped: sent, and no longer cached.
struct HeldText {
    text: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl ListMemory {
    pub(crate) fn new() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self { rows: of(MAX_ROWS), kib: of(MAX_KIB), patience: PATIENCE }
    }

    /// Waits until a list of this length may be read. Fails with 503 if that takes too long.
    pub(crate) async fn turn(&self, limit: Limit) -> Result<SemaphorePermit<'_>, Problem> {
        let rows = u32::try_from(limit.rows()).unwrap_or(u32::MAX);
        let turn = tokio::time::timeout(self.patience, self.rows.acquire_many(rows)).await;
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// Waits until a list that was read may be sent. Fails with 503 if that takes too long.
    pub(crate) async fn hold(&self, mut text: Vec<u8>) -> Result<Bytes, Problem> {
        text.shrink_to_fit();
        let kib = u32::try_from((text.len() / 1024).min(MAX_KIB)).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.kib).acquire_many_owned(kib);
        let share = tokio::time::timeout(self.patience, share).await;
        let share = share.ok().and_then(Result::ok).ok_or_else(busy)?;
        Ok(Bytes::from_owner(HeldText { text, _share: share }))
    }
}

fn busy() -> Problem {
    let detail = "too many long lists are being read; try again, or with a smaller limit";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", detail)
        .with_header(header::RETRY_AFTER, "5")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impatient() -> ListMemory {
        ListMemory { patience: Duration::from_millis(20), ..ListMemory::new() }
    }

    #[tokio::test]
    async fn lists_that_are_still_being_sent_hold_up_others() {
        let memory = impatient();
        let list = || memory.hold(vec![b' '; MAX_KIB / 2 * 1024]);
        let (first, second) = (list().await, list().await);
        assert!(first.is_ok() && second.is_ok());
        assert!(list().await.is_err(), "there is no room");
        let clone = second.clone();
        drop(second);
        assert!(list().await.is_err(), "one clone is still being sent");
        drop(clone);
        assert!(list().await.is_ok());
    }

    #[tokio::test]
    async fn long_lists_are_read_a_few_at_once() {
        let memory = impatient();
        let limit = Limit::try_from(100).expect("a limit");
        let mut turns = Vec::new();
        while let Ok(turn) = memory.turn(limit).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 4);
        turns.pop();
        assert!(memory.turn(limit).await.is_ok());
    }
}
