use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::store::Change;

/// The locks of a change: its order and its key. Two changes that are executed at the same time
/// have neither in common.
///
/// Both are hashes. If the hashes of two changes collide, one change waits for the other
/// needlessly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    order: u64,
    key: Option<u64>,
}

/// Claims of changes that are being executed, or were left out of a statement and wait to be
/// executed alone.
#[derive(Debug, Default)]
pub(super) struct Claims {
    hasher: RandomState,
    held: HashSet<u64>,
}

impl Claim {
    /// Returns whether the two claims have the order or the key in common.
    pub(super) fn meets(self, other: Self) -> bool {
        self.parts().any(|part| other.parts().any(|it| it == part))
    }

    fn parts(self) -> impl Iterator<Item = u64> {
        [Some(self.order), self.key].into_iter().flatten()
    }
}

impl Claims {
    /// Returns the claim of a change.
    pub(super) fn of(&self, change: &Change) -> Claim {
        let state = &change.order.state;
        let hash_key = |key: &chassis::IdempotencyKey| {
            self.hasher.hash_one((state.tenant_id.as_str(), key.as_str()))
        };
        Claim {
            order: self.hasher.hash_one(state.order_id.0),
            key: change.key.as_ref().map(hash_key),
        }
    }

    pub(super) fn are_free(&self, claim: Claim) -> bool {
        !claim.parts().any(|part| self.held.contains(&part))
    }

    pub(super) fn hold(&mut self, claim: Claim) {
        self.held.extend(claim.parts());
    }

    pub(super) fn release(&mut self, claim: Claim) {
        for part in claim.parts() {
            self.held.remove(&part);
        }
    }
}
