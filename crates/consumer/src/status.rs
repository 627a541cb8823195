use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::standing::Holds;

/// Health of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The subscription consumes, or has no messages.
    Running,
    /// The subscription consumes with problems, each a sentence, for example a missing topic.
    Troubled(Vec<String>),
    /// The database is unavailable, and messages wait, for this reason.
    Waiting(String),
    /// Consumption has stopped for this reason, so that no message is lost.
    Halted(String),
    /// An operator has paused the subscription on all instances.
    Paused {
        /// Name of the operator.
        by: String,
        /// The reason that was given.
        why: String,
    },
    /// Circuit breakers of these event types are open: nothing is consumed until a message of the
    /// type succeeds. Only [`standing`](crate::standing) returns the reasons, since they may quote
    /// a payload.
    BreakerOpen(Vec<String>),
    /// The consumer has ended.
    Stopped,
}

/// Text for operators.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Troubled(problems) => write!(f, "troubled: {}", problems.join("; ")),
            Self::Waiting(why) => write!(f, "waiting for the database: {why}"),
            Self::Halted(why) => write!(f, "halted: {why}"),
            Self::Paused { by, why } => write!(f, "paused by {by}: {why}"),
            Self::BreakerOpen(types) => write!(f, "breaker open: {}", types.join(", ")),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Handle to the state of a running subscription. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<watch::Sender<Conditions>>);

/// Reasons, with the number of guards that hold each.
type Reasons = BTreeMap<String, usize>;

#[derive(Debug, Default)]
struct Conditions {
    stopped: bool,
    halts: Reasons,
    waits: Reasons,
    holds: Holds,
    /// Reasons of parked keys.
    parked: Reasons,
    /// Problems by source.
    problems: BTreeMap<&'static str, Vec<String>>,
}

impl Status {
    /// Returns the current state; the most serious one if several apply.
    pub fn state(&self) -> State {
        let conditions = self.0.borrow();
        let first = |reasons: &Reasons| reasons.keys().next().cloned();
        if conditions.stopped {
            State::Stopped
        } else if let Some(why) = first(&conditions.halts) {
            State::Halted(why)
        } else if let Some(why) = first(&conditions.waits) {
            State::Waiting(why)
        } else if let Some(pause) = &conditions.holds.paused {
            State::Paused { by: pause.paused_by.clone(), why: pause.why.clone() }
        } else if conditions.holds.stop() {
            let types: BTreeSet<_> =
                conditions.holds.open().map(|it| it.event_type.clone()).collect();
            State::BreakerOpen(types.into_iter().collect())
        } else {
            let problems = conditions.problems();
            if problems.is_empty() { State::Running } else { State::Troubled(problems) }
        }
    }

    /// Replaces the shared state that stops the subscription.
    pub(crate) fn hold_by(&self, holds: &Holds) {
        self.0.send_if_modified(|it| {
            let is_new = it.holds != *holds;
            if is_new {
                it.holds = holds.clone();
            }
            is_new
        });
    }

    /// Reports a halt until the guard is dropped.
    pub(crate) fn halt(&self, why: impl Into<String>) -> StatusGuard {
        self.hold(Condition::Halted, why.into())
    }

    /// Reports a wait for the database until the guard is dropped.
    pub(crate) fn wait(&self, why: impl Into<String>) -> StatusGuard {
        self.hold(Condition::Waiting, why.into())
    }

    /// Reports a parked key with its reason until the guard is dropped.
    pub(crate) fn park(&self, why: impl Into<String>) -> StatusGuard {
        self.hold(Condition::Parked, why.into())
    }

    fn hold(&self, condition: Condition, why: String) -> StatusGuard {
        self.0.send_modify(|it| *it.reasons(condition).entry(why.clone()).or_default() += 1);
        StatusGuard { status: self.clone(), condition, why }
    }

    /// Replaces the problems of a source. Returns whether they changed.
    pub(crate) fn set_problems(&self, found_by: &'static str, problems: Vec<String>) -> bool {
        self.0.send_if_modified(|it| {
            let before = it.problems.remove(found_by).unwrap_or_default();
            let changed = before != problems;
            if !problems.is_empty() {
                it.problems.insert(found_by, problems);
            }
            changed
        })
    }

    pub(crate) fn stop(&self) {
        self.0.send_modify(|it| it.stopped = true);
    }

    /// Returns once the database has been unavailable for `long` without a break.
    pub(crate) async fn waited_for(&self, long: Duration) {
        let is_waiting = |it: &Conditions| !it.waits.is_empty();
        let mut conditions = self.0.subscribe();
        loop {
            // The sender lives in `self`, so neither wait can fail.
            let _ = conditions.wait_for(is_waiting).await;
            let ended = conditions.wait_for(|it| !is_waiting(it));
            if tokio::time::timeout(long, ended).await.is_err() {
                return;
            }
        }
    }

    /// Returns when no halt is reported.
    pub(crate) async fn not_halted(&self) {
        // The sender lives in `self`, so this can't fail.
        let _ = self.0.subscribe().wait_for(|it| it.halts.is_empty()).await;
    }
}

impl Conditions {
    fn reasons(&mut self, condition: Condition) -> &mut Reasons {
        match condition {
            Condition::Halted => &mut self.halts,
            Condition::Waiting => &mut self.waits,
            Condition::Parked => &mut self.parked,
        }
    }

    fn problems(&self) -> Vec<String> {
        let parked = self.parked.iter().map(|(why, keys)| match keys {
            1 => format!("1 key is parked: {why}"),
            _ => format!("{keys} keys are parked: {why}"),
        });
        self.problems.values().flatten().cloned().chain(parked).collect()
    }
}

/// Guard that reports a state until it is dropped.
#[derive(Debug)]
pub(crate) struct StatusGuard {
    status: Status,
    condition: Condition,
    why: String,
}

impl StatusGuard {
    /// Returns the reason of the state.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    Halted,
    Waiting,
    Parked,
}

impl Drop for StatusGuard {
    fn drop(&mut self) {
        self.status.0.send_modify(|it| {
            let reasons = it.reasons(self.condition);
            if let Some(holds) = reasons.get_mut(&self.why) {
                *holds -= 1;
                if *holds == 0 {
                    reasons.remove(&self.why);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Breaker;

    #[test]
    fn an_open_breaker_is_told_without_its_reason() {
        let now = time::OffsetDateTime::now_utc();
        let breaker = |event_type: &str| Breaker {
            event_type: event_type.into(),
            fingerprint: "f".into(),
            reason: "no mailbox ada@example.com".into(),
            letters: 20,
            last_at: now,
            opened_at: Some(now),
        };
        let status = Status::default();
        let breakers = vec![breaker("parcel.packed"), breaker("parcel.packed"), breaker("p.sent")];
        status.hold_by(&Holds { paused: None, breakers });
        assert_eq!(status.state().to_string(), "breaker open: p.sent, parcel.packed");
    }

    #[test]
    fn the_most_serious_state_is_told_and_ends_with_its_guard() {
        let status = Status::default();
        assert_eq!(status.state(), State::Running);
        assert!(status.set_problems("topics", vec!["the topic t is missing".into()]));
        assert!(!status.set_problems("topics", vec!["the topic t is missing".into()]), "no news");
        assert_eq!(status.state().to_string(), "troubled: the topic t is missing");
        let parked = [status.park("a lock"), status.park("a lock")];
        let expected = "troubled: the topic t is missing; 2 keys are parked: a lock";
        assert_eq!(status.state().to_string(), expected);
        drop(parked);
        let waiting = status.wait("it is read-only");
        let expected = "waiting for the database: it is read-only";
        assert_eq!(status.state().to_string(), expected);
        let (one, other) = (status.halt("no room"), status.halt("no room"));
        drop(one);
        assert_eq!(status.state().to_string(), "halted: no room");
        drop(other);
        assert_eq!(status.state().to_string(), expected);
        drop(waiting);
        assert!(status.set_problems("topics", Vec::new()));
        assert_eq!(status.state(), State::Running);
        status.stop();
        assert_eq!(status.state(), State::Stopped);
    }
}
