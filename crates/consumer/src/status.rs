use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Health of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// It consumes, or has nothing to.
    Running,
    /// It consumes what it can. Each problem is a sentence: a topic that is missing, for instance.
    Troubled(Vec<String>),
    /// The database is unavailable; messages wait.
    Waiting,
    /// Nothing is consumed, so that nothing is lost. Says why.
    Halted(String),
    /// It has ended.
    Stopped,
}

/// As an operator reads it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Troubled(problems) => write!(f, "troubled: {}", problems.join("; ")),
            Self::Waiting => f.write_str("waiting for the database"),
            Self::Halted(why) => write!(f, "halted: {why}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The state of a subscription, to be asked while it runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<watch::Sender<Conditions>>);

#[derive(Debug, Default)]
struct Conditions {
    stopped: bool,
    /// How often each reason holds.
    halts: BTreeMap<String, usize>,
    waits: usize,
    /// By what found them.
    problems: BTreeMap<&'static str, Vec<String>>,
}

impl Status {
    /// Returns the most serious state that holds.
    pub fn state(&self) -> State {
        let conditions = self.0.borrow();
        let problems = || conditions.problems.values().flatten().cloned().collect::<Vec<_>>();
        if conditions.stopped {
            State::Stopped
        } else if let Some(why) = conditions.halts.keys().next() {
            State::Halted(why.clone())
        } else if conditions.waits > 0 {
            State::Waiting
        } else if conditions.problems.is_empty() {
            State::Running
        } else {
            State::Troubled(problems())
        }
    }

    /// Halts until the guard is dropped.
    pub(crate) fn halt(&self, why: impl Into<String>) -> Held {
        let why = why.into();
        self.0.send_modify(|it| *it.halts.entry(why.clone()).or_default() += 1);
        Held { status: self.clone(), condition: Condition::Halted(why) }
    }

    /// Waits for the database until the guard is dropped.
    pub(crate) fn wait(&self) -> Held {
        self.0.send_modify(|it| it.waits += 1);
        Held { status: self.clone(), condition: Condition::Waiting }
    }

    /// Replaces the problems that `found_by` found before. Returns whether they are others.
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

    /// Returns when nothing is halted.
    pub(crate) async fn not_halted(&self) {
        // The sender lives in `self`, so this can't fail.
        let _ = self.0.subscribe().wait_for(|it| it.halts.is_empty()).await;
    }
}

/// Holds a state while it lives.
pub(crate) struct Held {
    status: Status,
    condition: Condition,
}

enum Condition {
    Halted(String),
    Waiting,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.status.0.send_modify(|it| match &self.condition {
            Condition::Waiting => it.waits -= 1,
            Condition::Halted(why) => {
                if let Some(holds) = it.halts.get_mut(why) {
                    *holds -= 1;
                    if *holds == 0 {
                        it.halts.remove(why);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_serious_state_is_told_and_ends_with_its_guard() {
        let status = Status::default();
        assert_eq!(status.state(), State::Running);
        assert!(status.set_problems("topics", vec!["the topic t is missing".into()]));
        assert!(!status.set_problems("topics", vec!["the topic t is missing".into()]), "no news");
        assert_eq!(status.state().to_string(), "troubled: the topic t is missing");
        let waiting = status.wait();
        assert_eq!(status.state(), State::Waiting);
        let (one, other) = (status.halt("no room"), status.halt("no room"));
        drop(one);
        assert_eq!(status.state().to_string(), "halted: no room");
        drop(other);
        assert_eq!(status.state(), State::Waiting);
        drop(waiting);
        assert!(status.set_problems("topics", Vec::new()));
        assert_eq!(status.state(), State::Running);
        status.stop();
        assert_eq!(status.state(), State::Stopped);
    }
}
