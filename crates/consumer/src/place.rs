//! Limits concurrent attempts, each of which uses a connection of the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::chain::Chain;
use crate::verdict::Verdict;

/// Places of the concurrent attempts of a subscription, including those at parked keys.
pub(crate) struct Places {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Permit for one attempt after the other, with the transaction that the last one has begun for the
/// next.
pub(crate) struct Place {
    pub(crate) chain: Chain,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Counts a waiting attempt until it is dropped.
struct WaitCount<'a>(&'a AtomicUsize);

impl Places {
    pub(crate) fn new(places: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(places)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a place, first come, first served.
    pub(crate) async fn take(&self) -> Place {
        let permits = Arc::clone(&self.permits);
        let permit = if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            Some(permit)
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiting = WaitCount(&self.waiting);
            // It fails only when the semaphore is closed, which it never is.
            permits.acquire_owned().await.ok()
        };
        Place { chain: Chain::default(), _permit: permit }
    }

    /// Returns the place if the next attempt can use its transaction at once and no other attempt
    /// waits for a place. Otherwise leaves it.
    pub(crate) fn keep(&self, place: Place, verdict: &Verdict) -> Option<Place> {
        let has_settled = matches!(verdict, Verdict::Settled);
        let continues = place.chain.continues && place.chain.has_begun();
        (has_settled && continues && !self.is_contended()).then_some(place)
    }

    fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Drop for WaitCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_attempt_that_waits_for_a_place_is_known_until_it_gives_up() {
        let places = Places::new(1);
        let first = places.take().await;
        assert!(!places.is_contended());
        let second = tokio::time::timeout(Duration::from_millis(20), async {
            let waiting = places.take();
            tokio::pin!(waiting);
            assert!(futures::poll!(&mut waiting).is_pending() && places.is_contended());
            waiting.await
        });
        assert!(second.await.is_err() && !places.is_contended());
        drop(first);
        places.take().await;
    }
}
