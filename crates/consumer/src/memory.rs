//! One memory budget for the messages of a process, with a share for each subscription.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::memory_limit;

/// Divisor of the budget for messages that the Kafka clients have fetched and that were not polled:
/// an eighth.
const CLIENTS: usize = 8;
/// The default budget. In a container it is at most an eighth of the memory limit, since a message
/// takes several times its record's bytes while it is processed.
const USUAL: usize = 8 * 1024 * 1024;
const OF_CONTAINER: usize = 8;
/// A client with less could not fetch a record of the usual maximum size.
const LEAST_FOR_CLIENT: usize = 1024 * 1024;

/// Bounds the bytes of messages that the subscriptions of a process hold, regardless of the number
/// of partitions: in the buffers of their Kafka clients, queued, parked, or being processed. Clones
/// share it.
///
/// An eighth is for the clients. Half of the rest is divided equally, so that no subscription
/// starves; the other half is shared on demand. A subscription that has used up both stops reading
/// until it holds less. An empty subscription accepts a record of any size.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    /// Bytes that each subscription holds.
    held: Mutex<Vec<Weak<AtomicUsize>>>,
}

impl Default for MemoryBudget {
    /// Creates a budget of 8 MiB, or of an eighth of the container's memory limit if that is less.
    fn default() -> Self {
        Self::new(memory_limit::bytes().map_or(USUAL, |limit| USUAL.min(limit / OF_CONTAINER)))
    }
}

impl MemoryBudget {
    /// Creates a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Shared { bytes, held: Mutex::default() }))
    }

    /// Returns a share for a subscription, which it has until the share is dropped.
    pub(crate) fn join(&self) -> Share {
        let held = Arc::new(AtomicUsize::new(0));
        self.members().push(Arc::downgrade(&held));
        Share { budget: self.clone(), held }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Weak<AtomicUsize>>> {
        let mut members = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|held| held.strong_count() > 0);
        members
    }
}

/// A subscription's share of the budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: MemoryBudget,
    held: Arc<AtomicUsize>,
}

impl Share {
    /// Sets how many bytes the subscription holds, without the buffers of its client.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held.store(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes the subscription may hold at present, without the buffers of its
    /// client.
    pub(crate) fn allowed(&self) -> usize {
        let members = self.budget.members();
        let all = self.budget.0.bytes - self.budget.0.bytes / CLIENTS;
        let own = all / 2 / members.len().max(1);
        let borrowed = |held: &Weak<AtomicUsize>| {
            let held = held.upgrade().filter(|held| !Arc::ptr_eq(held, &self.held));
            held.map_or(0, |held| held.load(Ordering::Relaxed).saturating_sub(own))
        };
        let by_others: usize = members.iter().map(borrowed).sum();
        own + (all / 2).saturating_sub(by_others)
    }

    /// Returns how many bytes the subscription's client may buffer.
    pub(crate) fn of_client(&self) -> usize {
        let members = self.budget.members().len().max(1);
        (self.budget.0.bytes / CLIENTS / members).max(LEAST_FOR_CLIENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_takes_what_is_free_and_leaves_the_others_their_own() {
        let budget = MemoryBudget::new(8_000);
        let one = budget.join();
        assert_eq!(one.allowed(), 7_000, "alone it may have all but the client's");
        let other = budget.join();
        one.hold(5_250);
        assert_eq!((one.allowed(), other.allowed()), (5_250, 1_750));
        other.hold(1_750);
        assert_eq!(one.allowed(), 5_250);
        one.hold(2_000);
        assert_eq!(other.allowed(), 5_000);
        drop(one);
        assert_eq!(other.allowed(), 7_000);
    }
}
