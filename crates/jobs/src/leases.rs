use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::handler::Kind;
use crate::queue::Renewal;
use crate::slots::Lane;

/// The jobs that a worker has leased.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Uuid, HeldLease>>>,
    has_run: Arc<Notify>,
}

#[derive(Debug)]
struct HeldLease {
    /// Shared with the [`Lease`]: a job that is claimed again has another one.
    claim: Arc<()>,
    kind: &'static str,
    lane: Lane,
    until: Instant,
    lost: CancellationToken,
    /// `true` if the job has run and only has to be removed.
    has_run: bool,
}

/// Occupies a slot until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    id: Uuid,
    claim: Arc<()>,
    /// Cancelled when another worker may have the job.
    pub(crate) lost: CancellationToken,
    leases: Leases,
}

impl Leases {
    /// Adds a job of a claim that was sent at `from`. A job can be claimed again before its last
    /// attempt has ended, which then has lost it.
    pub(crate) fn hold(
        &self,
        id: Uuid,
        (kind, lane): (&'static str, Lane),
        from: Instant,
        lease: Duration,
    ) -> Lease {
        let (claim, lost) = (Arc::new(()), CancellationToken::new());
        let held = HeldLease {
            claim: Arc::clone(&claim),
            kind,
            lane,
            until: from + lease,
            lost: lost.clone(),
            has_run: false,
        };
        if let Some(before) = self.lock().insert(id, held) {
            before.lost.cancel();
        }
        Lease { id, claim, lost, leases: self.clone() }
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// Counts the occupied slots of a kind. Jobs that ran and are only to be removed occupy none,
    /// unless they are more than may run at once.
    pub(crate) fn count_of(&self, kind: &Kind) -> usize {
        let held = self.lock();
        let of_kind = held.values().filter(|it| it.kind == kind.name);
        let (have_run, run): (Vec<_>, Vec<_>) = of_kind.partition(|it| it.has_run);
        run.len() + have_run.len().saturating_sub(kind.at_once)
    }

    /// Waits until a job has run that is only to be removed.
    pub(crate) async fn one_has_run(&self) {
        self.has_run.notified().await;
    }

    /// Counts the jobs of limited lanes.
    pub(crate) fn of_lanes(&self) -> HashMap<(&'static str, Lane), usize> {
        let mut counts = HashMap::new();
        for held in self.lock().values().filter(|held| held.lane.is_limited()) {
            *counts.entry((held.kind, held.lane.clone())).or_default() += 1;
        }
        counts
    }

    /// Applies a renewal that was sent at `from`: jobs `asked` for and not in `kept` belong to
    /// another worker, unless they were claimed since.
    pub(crate) fn renewed(&self, asked: &[Uuid], kept: &[Renewal], from: Instant, lease: Duration) {
        let kept: HashMap<_, _> = kept.iter().map(|it| (it.id, it.is_renewed)).collect();
        let mut held = self.lock();
        for id in asked {
            match (held.get_mut(id), kept.get(id)) {
                (Some(held), Some(true)) => held.until = from + lease,
                (Some(held), None) if held.until <= from + lease => held.lost.cancel(),
                _ => {}
            }
        }
    }

    /// Cancels jobs whose lease was not renewed in time, since another worker may have them.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        for held in self.lock().values().filter(|held| held.until <= now) {
            held.lost.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HeldLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Gives up the slot of a job that ran and is only to be removed. A job of a limited lane keeps
    /// it.
    pub(crate) fn give_up_slot(&self) {
        if let Some(held) = self.own(&mut self.leases.lock()) {
            held.has_run = !held.lane.is_limited();
        }
        self.leases.has_run.notify_one();
    }

    /// Occupies a slot again, although there may be none: nothing more is claimed until there is.
    pub(crate) fn take_slot(&self) {
        if let Some(held) = self.own(&mut self.leases.lock()) {
            held.has_run = false;
        }
    }

    /// Returns what is held for this claim. Returns `None` if the job was claimed again.
    fn own<'a>(&self, held: &'a mut HashMap<Uuid, HeldLease>) -> Option<&'a mut HeldLease> {
        held.get_mut(&self.id).filter(|held| Arc::ptr_eq(&held.claim, &self.claim))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        if self.own(&mut held).is_some() {
            held.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_ends_late_leaves_the_lease_of_the_next_one() {
        let (leases, id) = (Leases::default(), Uuid::now_v7());
        let claim = || {
            let lane = ("work", Lane::default());
            leases.hold(id, lane, Instant::now(), Duration::from_secs(30))
        };
        let late = claim();
        let next = claim();
        assert!(late.lost.is_cancelled() && !next.lost.is_cancelled());
        late.give_up_slot();
        assert!(leases.lock().values().all(|held| !held.has_run), "the next one's slot");
        next.give_up_slot();
        late.take_slot();
        assert!(leases.lock().values().all(|held| held.has_run), "still the next one's");
        drop(late);
        assert_eq!(leases.ids(), [id]);
        drop(next);
        assert!(leases.ids().is_empty());
    }
}
