//! Bytes that requests and responses take while they are under way: one budget per process, shared by the callers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use envelope::TenantId;
use tokio::sync::Notify;

use super::identity::Identity;
use super::problem::Problem;

/// How long a response waits for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// The part of the budget that one response takes at most: a fourth. A larger one could never be sent otherwise.
const LARGEST: usize = 4;
/// The part of the budget that may wait for room in addition: a fourth. These bytes are in memory, too.
const WAITING: usize = 4;

/// The caller whose share bytes count against.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Payer {
    Tenant(TenantId),
    Service(String),
    /// All callers without a known key together.
    Stranger,
}

impl Payer {
    pub(super) fn of(identity: &Identity) -> Self {
        match identity {
            Identity { tenant: Some(tenant), .. } => Self::Tenant(tenant.clone()),
            Identity { service: Some(grant), .. } => Self::Service(grant.source.clone()),
            _ => Self::Stranger,
        }
    }
}

/// Bytes that may be held at once. Clones share it.
///
/// A payer may hold as many bytes as it leaves free: one alone gets half of the budget, two get a third each, and the next one
/// always finds room (a dynamic threshold, Choudhury and Hahne 1998). Fixed shares would be used up by as many payers as there
/// are shares.
#[derive(Clone, Debug)]
pub(super) struct ByteBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    used: Mutex<Used>,
    freed: Notify,
}

#[derive(Default, Debug)]
struct Used {
    /// Of payers that hold something.
    by: HashMap<Payer, usize>,
    total: usize,
    /// Bytes of responses that wait for room.
    waiting: usize,
}

/// There is no room in a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the requests under way take all memory that they may")]
pub(super) struct NoRoom;

impl From<NoRoom> for Problem {
    fn from(_: NoRoom) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "too much is being sent and received at once; read responses as they come, and try again",
        )
        .retry_after(PATIENCE.as_secs())
    }
}

impl ByteBudget {
    pub(super) fn new(bytes: usize) -> Self {
        let (used, freed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { bytes, used, freed }))
    }

    /// Returns a hold on no bytes yet.
    pub(super) fn hold(&self, payer: Payer) -> Held {
        Held { budget: self.clone(), payer, bytes: 0 }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn take(&mut self, payer: &Payer, bytes: usize) {
        self.total += bytes;
        match self.by.get_mut(payer) {
            Some(held) => *held += bytes,
            None => _ = self.by.insert(payer.clone(), bytes),
        }
    }

    fn give_back(&mut self, payer: &Payer, bytes: usize) {
        self.total -= bytes;
        if let Entry::Occupied(mut held) = self.by.entry(payer.clone()) {
            *held.get_mut() -= bytes;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// Bytes that a payer holds, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: ByteBudget,
    payer: Payer,
    bytes: usize,
}

impl Held {
    /// Holds so many bytes more. Fails at once if there is no room.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes == 0 {
            return Ok(());
        }
        let mut used = self.budget.used();
        let own = used.by.get(&self.payer).copied().unwrap_or_default();
        let left = self.budget.0.bytes.checked_sub(used.total + bytes).ok_or(NoRoom)?;
        if own + bytes > left {
            return Err(NoRoom);
        }
        used.take(&self.payer, bytes);
        drop(used);
        self.bytes += bytes;
        Ok(())
    }

    /// Holds so many bytes in all. Waits for room, within limits of time and of the bytes that wait.
    pub(super) async fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes.min(self.budget.0.bytes / LARGEST);
        if bytes <= self.bytes {
            self.shrink(bytes);
            return Ok(());
        }
        let more = bytes - self.bytes;
        if self.add(more).is_ok() {
            return Ok(());
        }
        let budget = self.budget.clone();
        let _waiting = budget.wait_with(more)?;
        tokio::time::timeout(PATIENCE, self.add_when_freed(more)).await.map_err(|_| NoRoom)
    }

    /// Holds so many bytes in all, whether there is room or not: for the answer to a change that is made already.
    pub(super) fn force(&mut self, bytes: usize) {
        self.shrink(bytes);
        let more = bytes - self.bytes;
        self.budget.used().take(&self.payer, more);
        self.bytes += more;
    }

    async fn add_when_freed(&mut self, more: usize) {
        let budget = self.budget.clone();
        loop {
            let mut freed = std::pin::pin!(budget.0.freed.notified());
            // Before asking, so that what is freed in between is heard of.
            freed.as_mut().enable();
            if self.add(more).is_ok() {
                return;
            }
            freed.await;
        }
    }

    /// Holds at most so many bytes.
    fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less == 0 {
            return;
        }
        let mut used = self.budget.used();
        used.give_back(&self.payer, less);
        let is_awaited = used.waiting > 0;
        drop(used);
        self.bytes -= less;
        if is_awaited {
            self.budget.0.freed.notify_waiters();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// Bytes that wait for room, until this is dropped.
struct Waiting<'a> {
    budget: &'a ByteBudget,
    bytes: usize,
}

impl ByteBudget {
    fn wait_with(&self, bytes: usize) -> Result<Waiting<'_>, NoRoom> {
        let mut used = self.used();
        // One may wait, however large it is.
        if used.waiting > 0 && used.waiting + bytes > self.0.bytes / WAITING {
            return Err(NoRoom);
        }
        used.waiting += bytes;
        Ok(Waiting { budget: self, bytes })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.used().waiting -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payer(name: &str) -> Payer {
        Payer::Tenant(TenantId::new(name).expect("a tenant"))
    }

    /// Holds pieces of 10 bytes until there is no room.
    fn fill(budget: &ByteBudget, name: &str) -> Held {
        let mut held = budget.hold(payer(name));
        while held.add(10).is_ok() {}
        held
    }

    #[test]
    fn two_payers_that_take_all_they_can_leave_room_for_a_third() {
        let budget = ByteBudget::new(1_200);
        let acme = fill(&budget, "acme");
        assert_eq!(acme.bytes, 600, "half of it, alone");
        let globex = fill(&budget, "globex");
        let initech = fill(&budget, "initech");
        assert_eq!((globex.bytes, initech.bytes), (300, 150));
        drop(acme);
        assert_eq!(fill(&budget, "initech").bytes, 300);
        drop((globex, initech));
        let used = budget.used();
        assert_eq!((used.total, used.by.len()), (0, 0), "all is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_waits_for_room_and_not_for_ever() {
        let budget = ByteBudget::new(1_200);
        let slow = fill(&budget, "acme");
        let mut next = budget.hold(payer("acme"));
        assert_eq!(next.resize(200).await, Err(NoRoom));
        assert_eq!(budget.used().waiting, 0);
        let free = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(slow);
        };
        let (resized, ()) = tokio::join!(next.resize(200), free);
        assert_eq!((resized, next.bytes), (Ok(()), 200));
        assert_eq!(next.resize(50).await, Ok(()));
        assert_eq!(budget.used().total, 50);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_too() {
        let budget = ByteBudget::new(1_200);
        let _slow = fill(&budget, "acme");
        let mut all = [(); 3].map(|()| budget.hold(payer("acme")));
        let [one, other, third] = &mut all;
        // Two of them fill a fourth of the budget; the third one is refused at once.
        tokio::select! {
            biased;
            _ = one.resize(150) => panic!("there is no room"),
            _ = other.resize(150) => panic!("there is no room"),
            refused = third.resize(150) => assert_eq!(refused, Err(NoRoom)),
        }
    }

    #[tokio::test]
    async fn the_answer_to_a_change_is_sent_and_counted() {
        let budget = ByteBudget::new(1_200);
        let mut held = fill(&budget, "acme");
        held.force(900);
        assert_eq!(budget.used().total, 900);
        held.force(30);
        assert_eq!(budget.used().total, 30);
        assert_eq!(held.resize(100_000).await, Ok(()), "alone it is sent, however large");
        assert_eq!(held.bytes, 300);
    }
}
