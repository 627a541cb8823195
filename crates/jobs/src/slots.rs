//! The slots of a claim: for each kind, and within it for each tenant and lane.

use std::collections::HashMap;

use crate::handler::Kind;
use crate::queue::Claimed;

/// A tenant and a lane of one kind. Empty texts mean none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) tenant: String,
    pub(crate) name: String,
}

impl Lane {
    /// Returns `true` if its slots are limited. A job without tenant and lane has only the limit of
    /// its kind.
    pub(crate) fn is_limited(&self) -> bool {
        *self != Self::default()
    }
}

/// The slots of a claim, as columns with one row per kind.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) kinds: Vec<String>,
    /// Free slots.
    pub(crate) of_kind: Vec<i64>,
    /// All slots of a lane, free or not.
    pub(crate) of_lane: Vec<i64>,
    /// All slots of a tenant.
    pub(crate) of_tenant: Vec<i64>,
    /// The lane after which the search begins.
    pub(crate) after: Lanes,
    pub(crate) busy: Busy,
    pub(crate) together: i64,
}

/// Lanes, as columns.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) tenants: Vec<String>,
    pub(crate) names: Vec<String>,
}

impl Lanes {
    fn push(&mut self, lane: Lane) {
        self.tenants.push(lane.tenant);
        self.names.push(lane.name);
    }
}

/// Lanes with running jobs of this worker, as columns.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    pub(crate) kinds: Vec<String>,
    pub(crate) lanes: Lanes,
    pub(crate) held: Vec<i64>,
}

impl Busy {
    pub(crate) fn of(held: HashMap<(&'static str, Lane), usize>) -> Self {
        let mut busy = Self::default();
        for ((kind, lane), count) in held {
            busy.kinds.push(kind.to_owned());
            busy.lanes.push(lane);
            busy.held.push(column(count));
        }
        busy
    }
}

impl Slots {
    pub(crate) fn add(&mut self, kind: &Kind, free: usize, after: Lane) {
        self.kinds.push(kind.name.to_owned());
        self.of_kind.push(column(free));
        self.of_lane.push(column(kind.of_lane()));
        self.of_tenant.push(column(kind.of_tenant()));
        self.after.push(after);
    }

    /// Returns `true` if jobs without tenant and lane took all slots.
    pub(crate) fn are_filled_by(&self, jobs: &[Claimed]) -> bool {
        column(jobs.len()) == self.of_kind.iter().sum::<i64>()
            && jobs.iter().all(|job| !job.lane().is_limited())
    }

    /// Returns `true` if each kind can have all its slots, regardless of the others.
    pub(crate) fn are_independent(&self) -> bool {
        self.of_kind.iter().sum::<i64>() <= self.together
    }
}

pub(crate) fn column(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
