use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::places::Lane;

/// The jobs that a worker has leased.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Uuid, Held>>>,
}

#[derive(Debug)]
struct Held {
    kind: &'static str,
    lane: Lane,
    until: Instant,
    lost: CancellationToken,
}

/// Occupies a slot until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    id: Uuid,
    /// Cancelled when another worker may have the job.
    pub(crate) lost: CancellationToken,
    leases: Leases,
}

impl Leases {
    /// Adds a job of a claim that was sent at `from`.
    pub(crate) fn hold(
        &self,
        id: Uuid,
        (kind, lane): (&'static str, Lane),
        from: Instant,
        lease: Duration,
    ) -> Lease {
        let lost = CancellationToken::new();
        let held = Held { kind, lane, until: from + lease, lost: lost.clone() };
        self.lock().insert(id, held);
        Lease { id, lost, leases: self.clone() }
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn count_of(&self, kind: &str) -> usize {
        self.lock().values().filter(|held| held.kind == kind).count()
    }

    /// Counts the jobs of limited lanes.
    pub(crate) fn of_lanes(&self) -> HashMap<(&'static str, Lane), usize> {
        let mut counts = HashMap::new();
        for held in self.lock().values().filter(|held| held.lane.is_limited()) {
            *counts.entry((held.kind, held.lane.clone())).or_default() += 1;
        }
        counts
    }

    /// Applies a renewal that was sent at `from`: jobs `asked` for and not `renewed` belong to another worker, unless
    /// they were claimed since.
    pub(crate) fn renewed(&self, asked: &[Uuid], renewed: &[Uuid], from: Instant, lease: Duration) {
        let mut held = self.lock();
        for id in asked {
            match held.get_mut(id) {
                Some(held) if renewed.contains(id) => held.until = from + lease,
                Some(held) if held.until <= from + lease => held.lost.cancel(),
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.id);
    }
}
