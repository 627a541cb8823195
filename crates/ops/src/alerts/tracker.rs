//! Turns the conditions of each evaluation into alerts that fire and resolve. Like `for` and
//! `keep_firing_for` in Prometheus, delays keep an alert from flapping with its condition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::rule::Rule;

/// The object of an alert. Unused parts are empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) service: String,
    /// The consumer group.
    pub(crate) group: String,
    /// The kind of job, or the deferred task.
    pub(crate) kind: String,
}

/// A condition that is fulfilled.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Condition {
    pub(crate) rule: &'static Rule,
    pub(crate) subject: Subject,
    pub(crate) value: f64,
    /// A sentence that contains the value.
    pub(crate) summary: String,
}

impl Condition {
    /// Returns the first step for an operator.
    pub(crate) fn what_to_do(&self) -> String {
        self.rule.what_to_do.replace("<group>", &self.subject.group)
    }
}

/// An alert that is firing or was just resolved.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Active {
    /// The condition as last observed.
    pub(crate) condition: Condition,
    /// When the condition was first observed.
    pub(crate) since: SystemTime,
}

/// A change of an alert's state.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum AlertChange {
    Firing(Active),
    Resolved(Active),
}

/// The pending and the firing alerts.
#[derive(Default)]
pub(crate) struct Tracker {
    alerts: BTreeMap<(&'static str, Subject), Tracked>,
}

struct Tracked {
    active: Active,
    began: Instant,
    /// When the condition was last observed.
    held: Instant,
    fires: bool,
}

impl Tracker {
    /// Takes the conditions that are fulfilled now, and returns the changes. Any other condition is
    /// not fulfilled, unless its data is missing: a firing alert goes on until it is known to be
    /// over.
    pub(crate) fn observe(
        &mut self,
        conditions: Vec<Condition>,
        is_unknown: impl Fn(&Rule, &Subject) -> bool,
        now: Instant,
    ) -> Vec<AlertChange> {
        for condition in conditions {
            let key = (condition.rule.name, condition.subject.clone());
            let since = SystemTime::now();
            let tracked = self.alerts.entry(key).or_insert_with(|| Tracked {
                active: Active { condition: condition.clone(), since },
                began: now,
                held: now,
                fires: false,
            });
            tracked.active.condition = condition;
            tracked.held = now;
        }
        let mut changes = Vec::new();
        self.alerts.retain(|(_, subject), tracked| {
            if tracked.fires && is_unknown(tracked.active.condition.rule, subject) {
                tracked.held = now;
            }
            let change = tracked.step(now);
            let stays = tracked.fires || tracked.held == now;
            changes.extend(change);
            stays
        });
        changes
    }

    /// Returns the firing alerts.
    pub(crate) fn firing(&self) -> Vec<Active> {
        self.alerts.values().filter(|it| it.fires).map(|it| it.active.clone()).collect()
    }
}

impl Tracked {
    fn step(&mut self, now: Instant) -> Option<AlertChange> {
        let rule = self.active.condition.rule;
        let after = |start: Instant, wait: Duration| now.saturating_duration_since(start) >= wait;
        if !self.fires && self.held == now && after(self.began, rule.holds_for) {
            self.fires = true;
            return Some(AlertChange::Firing(self.active.clone()));
        }
        if self.fires && self.held != now && after(self.held, rule.keeps_firing_for) {
            self.fires = false;
            return Some(AlertChange::Resolved(self.active.clone()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::LAG_HIGH;
    use super::*;

    fn condition(group: &str) -> Condition {
        let subject = Subject { group: group.into(), ..Subject::default() };
        Condition { rule: &LAG_HIGH, subject, value: 10_001.0, summary: "behind".into() }
    }

    /// Observes a condition every 5 s. Returns the changes and the seconds at which they occurred.
    fn changes(holds: impl Fn(u64) -> bool, until: u64) -> Vec<(u64, &'static str)> {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut changes = Vec::new();
        for second in (0..=until).step_by(5) {
            let holding = holds(second).then(|| condition("billing")).into_iter().collect();
            let known = |_: &Rule, _: &Subject| false;
            for change in tracker.observe(holding, known, start + Duration::from_secs(second)) {
                let kind =
                    if matches!(change, AlertChange::Firing(_)) { "firing" } else { "resolved" };
                changes.push((second, kind));
            }
        }
        changes
    }

    #[test]
    fn an_alert_fires_after_half_a_minute_and_resolves_a_minute_after_it_last_held() {
        let changed = changes(|second| (10..100).contains(&second), 300);
        assert_eq!(changed, [(40, "firing"), (155, "resolved")]);
    }

    #[test]
    fn what_comes_and_goes_does_not_flap() {
        assert_eq!(
            changes(|second| second % 30 < 25, 600),
            [],
            "the condition never holds for half a minute"
        );
        let changed = changes(|second| second < 60 || second % 50 < 10, 600);
        assert_eq!(changed, [(30, "firing")], "the condition is never absent for a minute");
    }

    #[test]
    fn what_is_unknown_neither_fires_nor_resolves() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut observe = |group: Option<&str>, is_unknown: bool, second: u64| {
            let holding = group.map(condition).into_iter().collect();
            let at = start + Duration::from_secs(second);
            tracker.observe(holding, |_, _| is_unknown, at).len()
        };
        assert_eq!(observe(Some("billing"), false, 0), 0);
        assert_eq!(observe(None, true, 40), 0, "it was not known to hold for half a minute");
        assert_eq!(observe(Some("billing"), false, 45), 0);
        assert_eq!(observe(Some("billing"), false, 75), 1, "it fires");
        assert_eq!(observe(None, true, 100), 0);
        assert_eq!(observe(None, true, 1_000), 0, "nobody knows whether it is over");
        assert_eq!(observe(None, false, 1_059), 0);
        assert_eq!(observe(None, false, 1_060), 1, "a minute later it is");
    }

    #[test]
    fn each_group_has_its_own_alert() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let known = |_: &Rule, _: &Subject| false;
        tracker.observe(vec![condition("billing")], known, start);
        let both = vec![condition("billing"), condition("analytics")];
        let changed = tracker.observe(both, known, start + LAG_HIGH.holds_for);
        assert!(
            matches!(&changed[..], [AlertChange::Firing(it)] if it.condition.subject.group == "billing")
        );
        assert_eq!(tracker.firing().len(), 1);
    }
}
