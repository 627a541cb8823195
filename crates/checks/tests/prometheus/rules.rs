//! Rules, code and runbook agree.

use std::collections::BTreeSet;
use std::time::Duration;

use consumer::State;
use ops::{ARRIVING_FOR, LAG_THRESHOLD, NEW_FOR, RULES, STALLED_AFTER};

use crate::files::{RuleText, read, rules};

fn alerts() -> Vec<(String, RuleText)> {
    rules().into_iter().filter_map(|rule| Some((rule.alert.clone()?, rule))).collect()
}

/// Parses a duration of Prometheus.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    Duration::from_secs(number * if unit == "m" { 60 } else { 1 })
}

#[test]
fn serve_has_the_rules_of_prometheus_with_their_times_and_thresholds() {
    let alerts = alerts();
    for rule in RULES {
        let found = alerts.iter().find(|(name, _)| name == rule.name);
        let (_, text) = found.unwrap_or_else(|| panic!("rules.yml has no {}", rule.name));
        assert_eq!(duration(&text.holds_for), rule.holds_for, "{}", rule.name);
        assert_eq!(duration(&text.keeps_firing_for), rule.keeps_firing_for, "{}", rule.name);
        let is_of_time = ["DeadLettersArriving", "NewFailureReason"].contains(&rule.name);
        if !is_of_time && !["ServiceDown", "LagUnknown"].contains(&rule.name) {
            let threshold = text.expr.rsplit_once("> ").unwrap().1.parse::<f64>();
            assert_eq!(threshold, Ok(rule.threshold), "{}: {}", rule.name, text.expr);
        }
    }
    let known: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    let others = alerts.iter().filter(|(name, _)| !known.contains(&**name));
    // They need days of history.
    assert!(others.clone().count() == 3 && others.clone().all(|it| it.0.starts_with("EventsLate")));
}

#[test]
fn the_threshold_of_orderflow_lag_is_that_of_the_alert() {
    let alerts = alerts();
    let expr = |alert: &str| &alerts.iter().find(|(name, _)| name == alert).unwrap().1.expr;
    assert!(expr("LagHigh").ends_with(&format!("> {LAG_THRESHOLD}")), "{}", expr("LagHigh"));
    assert!(expr("NewFailureReason").ends_with(&format!("< {}", NEW_FOR.as_secs())));
    let arriving = expr("DeadLettersArriving");
    assert!(arriving.ends_with(&format!("< {}", ARRIVING_FOR.as_secs())), "{arriving}");
    let range = format!("[{}m]", ARRIVING_FOR.as_secs() / 60);
    assert!(expr("DeferredDropped").contains(&range), "{}", expr("DeferredDropped"));
}

#[test]
fn a_group_is_stalled_only_after_the_longest_retries_of_a_message() {
    let consumer::Options { retries, first_backoff, backoff_factor, handler_timeout, .. } =
        consumer::Options::default();
    let waits: Duration = (0..retries).map(|it| first_backoff * backoff_factor.pow(it)).sum();
    // Includes the jitter of a fifth.
    let longest = waits.mul_f64(1.2) + handler_timeout * (retries + 1);
    assert!(STALLED_AFTER > longest, "{STALLED_AFTER:?} is not above {longest:?}");
}

#[test]
fn each_alert_says_what_it_means_and_has_its_entry_in_the_runbook() {
    let runbook = read("docs/operations.md");
    let entries = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    let entries: BTreeSet<_> = entries.map(str::to_owned).collect();
    for (name, rule) in alerts() {
        assert!(!rule.summary.is_empty() && !rule.description.is_empty(), "{name}");
        assert_eq!(rule.runbook_url, format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(entries.contains(&name), "docs/operations.md has no entry {name}");
    }
    let alerts: BTreeSet<_> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(alerts, entries, "the runbook has entries of alerts that are gone");
}

/// Returns how a state's entry in the runbook begins. `None` if the state needs no entry.
fn entry(state: &State) -> Option<String> {
    match state {
        State::Running => None,
        State::Troubled(_)
        | State::Waiting(_)
        | State::Halted(_)
        | State::Paused { .. }
        | State::BreakerOpen(_)
        | State::Stopped => Some(format!("- `{state}`")),
    }
}

#[test]
fn the_runbook_has_an_entry_for_every_state_of_a_subscription() {
    let text = || "..".to_owned();
    // With a new state `entry` does not compile. Add it here, too.
    let states = [
        State::Running,
        State::Troubled(vec![text()]),
        State::Waiting(text()),
        State::Halted(text()),
        State::Paused { by: text(), why: text() },
        State::BreakerOpen(vec![text()]),
        State::Stopped,
    ];
    let runbook = read("docs/operations.md");
    let stalled = runbook.split("\n### ").find(|it| it.starts_with("Stalled\n")).unwrap();
    let entries = states.iter().filter_map(entry);
    let missing: Vec<_> = entries.filter(|it| !stalled.contains(it.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md has no entries {missing:?}");
}

#[test]
fn each_alert_is_tested_to_fire_and_to_clear() {
    let tests = ["lag", "services", "slo"]
        .map(|name| read(&format!("deploy/prometheus/tests/{name}.yml")))
        .join("\n");
    for (name, _) in alerts() {
        let mut outcomes = BTreeSet::new();
        for test in tests.split(&format!("ALERTS{{alertname=\"{name}\",")).skip(1) {
            outcomes.insert(test.split_once("exp_samples: ").unwrap().1.starts_with("[]"));
        }
        assert_eq!(outcomes.len(), 2, "{name} is not seen both to fire and not to");
    }
}
