//! Budgets for the memory of requests and responses in flight, shared by the callers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use envelope::TenantId;
use tokio::sync::Notify;

use super::identity::Identity;
use super::problem::Problem;
use super::shares::Shares;

/// Maximum time that a response waits for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// Divisor: one response counts as half of the budget at most. A larger one could hardly ever be
/// sent otherwise.
const LARGEST: usize = 2;
/// Divisor: as much as half of the budget may wait for room in addition. These bytes are in memory,
/// too.
const WAITING: usize = 2;

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

/// Bytes that may be held at once, shared among payers by the rule of [`Shares`]. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ByteBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    used: Mutex<Used>,
    freed: Notify,
}

#[derive(Debug)]
struct Used {
    held: Shares,
    /// Bytes of responses that wait for room, by the same rule.
    waiting: Shares,
}

/// A budget has no room left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the memory for requests and responses is used up")]
pub(super) struct NoRoom;

impl From<NoRoom> for Problem {
    fn from(_: NoRoom) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            "the memory for requests and responses is used up; read responses without delay, and try again",
        )
        .retry_after(PATIENCE.as_secs())
    }
}

impl ByteBudget {
    pub(super) fn new(bytes: usize) -> Self {
        let used = Used { held: Shares::new(bytes), waiting: Shares::new(bytes / WAITING) };
        let (used, freed) = (Mutex::new(used), Notify::new());
        Self(Arc::new(Shared { bytes, used, freed }))
    }

    /// Creates a hold of zero bytes.
    pub(super) fn hold(&self, payer: Payer) -> HeldBytes {
        HeldBytes { budget: self.clone(), payer, bytes: 0 }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a payer holds, until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    budget: ByteBudget,
    payer: Payer,
    bytes: usize,
}

impl HeldBytes {
    /// Holds `bytes` more. Fails at once with [`NoRoom`] if the payer may not hold them.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes == 0 {
            return Ok(());
        }
        let all = self.bytes + bytes;
        let mut used = self.budget.used();
        if !used.held.admits(&self.payer, self.bytes, all) {
            return Err(NoRoom);
        }
        used.held.set(&self.payer, self.bytes, all);
        drop(used);
        self.bytes = all;
        Ok(())
    }

    /// Changes the hold to `bytes`, at most half of the budget. Waits up to 5 s for room. Fails
    /// with [`NoRoom`] after that, or at once if too many bytes wait already.
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
        let _waiting = budget.wait_with(self.payer.clone(), more)?;
        tokio::time::timeout(PATIENCE, self.add_when_freed(more)).await.map_err(|_| NoRoom)
    }

    /// Changes the hold to `bytes`, even beyond the budget: the response to a completed change is
    /// always sent.
    pub(super) fn force(&mut self, bytes: usize) {
        self.shrink(bytes);
        self.budget.used().held.set(&self.payer, self.bytes, bytes);
        self.bytes = bytes;
    }

    async fn add_when_freed(&mut self, more: usize) {
        let budget = self.budget.clone();
        loop {
            let mut freed = std::pin::pin!(budget.0.freed.notified());
            // Enabled before the attempt, so that bytes freed in between are not missed.
            freed.as_mut().enable();
            if self.add(more).is_ok() {
                return;
            }
            freed.await;
        }
    }

    /// Releases the bytes above `bytes`.
    fn shrink(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            return;
        }
        let mut used = self.budget.used();
        used.held.set(&self.payer, self.bytes, bytes);
        let is_awaited = used.waiting.total() > 0;
        drop(used);
        self.bytes = bytes;
        if is_awaited {
            self.budget.0.freed.notify_waiters();
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// Bytes that wait for room, until this is dropped.
struct WaitingBytes<'a> {
    budget: &'a ByteBudget,
    payer: Payer,
    bytes: usize,
}

impl ByteBudget {
    fn wait_with(&self, payer: Payer, bytes: usize) -> Result<WaitingBytes<'_>, NoRoom> {
        let mut used = self.used();
        let bytes = bytes.min(used.waiting.largest());
        if !used.waiting.admits(&payer, 0, bytes) {
            return Err(NoRoom);
        }
        used.waiting.set(&payer, 0, bytes);
        drop(used);
        Ok(WaitingBytes { budget: self, payer, bytes })
    }
}

impl Drop for WaitingBytes<'_> {
    fn drop(&mut self) {
        self.budget.used().waiting.set(&self.payer, self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::shares::SMALL;

    const MIB: usize = 1024 * 1024;

    fn payer(name: &str) -> Payer {
        Payer::Tenant(TenantId::new(name).expect("a tenant"))
    }

    /// Holds as many pieces of a size as fit.
    fn fill(budget: &ByteBudget, name: &str, piece: usize) -> Vec<HeldBytes> {
        let next = || {
            let mut held = budget.hold(payer(name));
            held.add(piece).is_ok().then_some(held)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn two_payers_that_give_nothing_back_leave_a_third_its_list() {
        let budget = ByteBudget::new(16 * MIB);
        for piece in [SMALL, MIB, 4 * MIB] {
            let mut slow = fill(&budget, "acme", piece);
            slow.extend(fill(&budget, "acme", SMALL));
            slow.extend(fill(&budget, "globex", piece));
            slow.extend(fill(&budget, "globex", SMALL));
            let mut list = budget.hold(payer("initech"));
            assert_eq!((list.add(SMALL), list.add(4 * MIB - SMALL)), (Ok(()), Ok(())), "{piece}");
            let mut small = budget.hold(payer("hooli"));
            assert_eq!(small.add(SMALL), Ok(()), "the next one has room for a small one");
        }
        assert_eq!(budget.used().held.total(), 0, "all is given back");
    }

    #[test]
    fn a_large_response_is_sent_if_it_is_the_only_one() {
        let budget = ByteBudget::new(16 * MIB);
        let _large = fill(&budget, "acme", 6 * MIB);
        let small = fill(&budget, "acme", SMALL);
        assert_eq!((budget.used().held.total(), small.len()), (7 * MIB, 64));
        assert_eq!(fill(&budget, "acme", 2 * SMALL).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_waits_for_room_and_not_for_ever() {
        let budget = ByteBudget::new(16 * MIB);
        let slow = fill(&budget, "acme", MIB);
        let mut next = budget.hold(payer("acme"));
        assert_eq!(next.resize(2 * MIB).await, Err(NoRoom));
        assert_eq!(budget.used().waiting.total(), 0);
        let free = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(slow);
        };
        let (resized, ()) = tokio::join!(next.resize(2 * MIB), free);
        assert_eq!((resized, next.bytes), (Ok(()), 2 * MIB));
        assert_eq!(next.resize(50).await, Ok(()));
        assert_eq!(budget.used().held.total(), 50);
    }

    #[tokio::test]
    async fn a_payer_that_waits_keeps_no_other_from_waiting() {
        let budget = ByteBudget::new(16 * MIB);
        let mut full = budget.hold(payer("initech"));
        full.force(16 * MIB);
        let [mut one, mut other] = [(); 2].map(|()| budget.hold(payer("acme")));
        let mut small = budget.hold(payer("globex"));
        let refused_and_freed = async {
            // The second one of the same payer is refused at once.
            assert_eq!(other.resize(4 * MIB).await, Err(NoRoom));
            drop(full);
        };
        let waits = async { tokio::join!(one.resize(4 * MIB), small.resize(SMALL)) };
        let (waited, ()) = tokio::join!(biased; waits, refused_and_freed);
        assert_eq!(waited, (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn the_answer_to_a_change_is_sent_and_counted() {
        let budget = ByteBudget::new(16 * MIB);
        let mut held = budget.hold(payer("acme"));
        held.force(20 * MIB);
        assert_eq!(budget.used().held.total(), 20 * MIB);
        held.force(30);
        assert_eq!(budget.used().held.total(), 30);
        assert_eq!(held.resize(100 * MIB).await, Ok(()), "alone it is sent, however large");
        assert_eq!(held.bytes, 8 * MIB);
    }
}
