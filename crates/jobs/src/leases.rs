use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::places::Lane;

/// The jobs that a worker has in hand.
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

/// Holds a place while it lives.
#[derive(Debug)]
pub(crate) struct Lease {
    id: Uuid,
    /// Cancelled when the job may be another's.
    pub(crate) lost: CancellationToken,
    leases: Leases,
}

impl Leases {
    /// A claim that was sent at `from`.
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

    /// Counts the jobs of lanes that are limited.
    pub(crate) fn of_lanes(&self) -> HashMap<(&'static str, Lane), usize> {
        let mut counts = HashMap::new();
        for held in self.lock().values().filter(|held| held.lane.is_limited()) {
            *counts.entry((held.kind, held.lane.clone())).or_default() += 1;
        }
        counts
    }

    /// What was `asked` for at `from` and not `renewed` is another's by now, unless it was claimed since.
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

    /// What could not be renewed in time may be another's.
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
