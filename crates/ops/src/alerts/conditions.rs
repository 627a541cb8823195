//! Evaluates the conditions of the rules on the polled data. Missing data fulfils no condition, and
//! ends no alert either: an unavailable service and an unknown lag have alerts of their own.

use std::time::{Duration, Instant, SystemTime};

use super::rule::{self, ARRIVING_FOR, NEW_FOR, Rule};
use super::tracker::{Condition, Subject};
use crate::client::OUTBOX_AGE;
use crate::lag::{GroupLag, Lag};
use crate::serve::{
    Arrivals, DEFERRED_DROPPED, GROUP_LABEL, Letters, MESSAGES_LOST, Process, STARTED_AT,
    ServiceState, TASK_LABEL,
};

/// The polled data.
pub(crate) struct Observed<'a> {
    pub(crate) services: &'a [ServiceState],
    /// `None` before the first measurement; the reason if the last one failed.
    pub(crate) lag: Option<Result<&'a Lag, &'a str>>,
}

/// Returns the conditions that are fulfilled.
pub(crate) fn conditions(
    observed: &Observed<'_>,
    arrivals: &mut Arrivals,
    now: Instant,
) -> Vec<Condition> {
    let mut all = Vec::new();
    for state in observed.services {
        of_service(state, &mut all);
        count(state, arrivals, now);
    }
    of_arrivals(arrivals, now, &mut all);
    match observed.lag {
        Some(Ok(lag)) => all.extend(of_lag(lag)),
        Some(Err(why)) => all.push(Condition {
            rule: &rule::LAG_UNKNOWN,
            subject: Subject::default(),
            value: 1.0,
            summary: format!("lag is not measured: {why}"),
        }),
        None => {}
    }
    all
}

/// Returns whether the data is missing that would tell whether a condition is fulfilled.
pub(crate) fn is_unknown(observed: &Observed<'_>, rule: &Rule, subject: &Subject) -> bool {
    let is_one_of = |rules: &[&Rule]| rules.iter().any(|it| it.name == rule.name);
    let state = observed.services.iter().find(|it| it.service == subject.service);
    if is_one_of(&[&rule::JOBS_FAILED]) {
        state.is_none_or(|it| it.failed_jobs.is_none())
    } else if is_one_of(&[&rule::DEAD_LETTERS_ARRIVING, &rule::NEW_FAILURE_REASON]) {
        state.is_none_or(|it| it.letters.is_none())
    } else if is_one_of(&[&rule::OUTBOX_AGE]) {
        state.is_none_or(|it| it.metrics.is_none())
    } else if is_one_of(&[
        &rule::LAG_HIGH,
        &rule::LAG_SECONDS,
        &rule::STALLED,
        &rule::NEAR_RETENTION,
        &rule::MESSAGES_LOST,
    ]) {
        let Some(Ok(lag)) = observed.lag else { return true };
        let mut groups = lag.groups.iter().filter(|it| it.group == subject.group);
        groups.any(|it| !it.is_known() || it.age().is_none())
    } else {
        false
    }
}

/// Adds a condition of a group if the value is above the rule's threshold.
fn add(
    all: &mut Vec<Condition>,
    rule: &'static Rule,
    subject: &Subject,
    value: f64,
    summary: String,
) {
    if value > rule.threshold {
        all.push(Condition { rule, subject: subject.clone(), value, summary });
    }
}

/// Returns the conditions that the groups of the services fulfil.
pub(crate) fn of_lag(lag: &Lag) -> Vec<Condition> {
    let mut all = Vec::new();
    let ours = lag.groups.iter().filter(|it| it.service.is_some());
    ours.for_each(|group| of_group(group, &mut all));
    all
}

#[allow(clippy::cast_precision_loss)] // Precision does not matter for the value of an alert.
fn of_group(lag: &GroupLag, all: &mut Vec<Condition>) {
    let group = &lag.group;
    let subject = Subject {
        service: lag.service.clone().unwrap_or_default(),
        group: group.clone(),
        kind: String::new(),
    };
    if let Some(messages) = lag.messages() {
        let summary = format!("{group} is {messages} messages behind");
        add(all, &rule::LAG_HIGH, &subject, messages as f64, summary);
    }
    if let Some(age) = lag.age().filter(|_| lag.messages() > Some(0)) {
        let seconds = age.as_secs_f64();
        let summary = format!("the oldest unconsumed message of {group} is {seconds:.0} s old");
        add(all, &rule::LAG_SECONDS, &subject, seconds, summary);
    }
    if lag.is_stalled() {
        let summary = format!("{group} is behind and makes no progress");
        add(all, &rule::STALLED, &subject, 1.0, summary);
    }
    if let Some(share) = lag.share_of_retention() {
        let summary = format!(
            "the oldest message that {group} has not consumed has used {:.0} % of its topic's retention",
            share * 100.0
        );
        add(all, &rule::NEAR_RETENTION, &subject, share, summary);
    }
    let lost = lag.lost();
    let summary = format!("{lost} messages were deleted before {group} consumed them");
    add(all, &rule::MESSAGES_LOST, &subject, lost as f64, summary);
    if lag.age().is_none() {
        let summary = format!("the lag of {group} is unknown: {}", unknown_reason(lag));
        add(all, &rule::LAG_UNKNOWN, &subject, 1.0, summary);
    }
}

fn unknown_reason(lag: &GroupLag) -> String {
    match &lag.unknown {
        Some(why) => why.clone(),
        None if lag.missing_topics.is_empty() => {
            "its oldest unconsumed message can't be read".to_owned()
        }
        None => format!("there is no topic {}", lag.missing_topics.join(", ")),
    }
}

#[allow(clippy::cast_precision_loss)] // Precision does not matter for the value of an alert.
fn of_service(state: &ServiceState, all: &mut Vec<Condition>) {
    let service = &state.service;
    let subject = Subject { service: service.clone(), ..Subject::default() };
    if let Some(why) = &state.down {
        let summary = format!("{service} is not ready: {why}");
        add(all, &rule::SERVICE_DOWN, &subject, 1.0, summary);
    }
    let age = state.samples_of(OUTBOX_AGE).map(|it| it.value).reduce(f64::max).unwrap_or(0.0);
    let summary = format!("an event has waited in {service}'s outbox for {age:.0} s");
    add(all, &rule::OUTBOX_AGE, &subject, age, summary);
    for (kind, failed) in state.failed_jobs.iter().flatten() {
        let subject = Subject { kind: kind.clone(), ..subject.clone() };
        let summary = format!("{failed} jobs {kind} of {service} have failed for good");
        add(all, &rule::JOBS_FAILED, &subject, *failed as f64, summary);
    }
    for (group, letters) in state.letters.iter().flatten() {
        of_letters(&Subject { group: group.clone(), ..subject.clone() }, letters, all);
    }
}

/// Adds the conditions of a group's dead letters. Every instance of a service knows all of them,
/// but its counter only those of its own process.
fn of_letters(subject: &Subject, letters: &Letters, all: &mut Vec<Condition>) {
    let is_within = |at: Option<SystemTime>, time: Duration| {
        let age = at.map(|at| SystemTime::now().duration_since(at).unwrap_or(Duration::ZERO));
        age.is_some_and(|age| age < time)
    };
    let group = &subject.group;
    if is_within(letters.last, ARRIVING_FOR) {
        let minutes = ARRIVING_FOR.as_secs() / 60;
        let summary = format!("messages of {group} were dead-lettered within {minutes} minutes");
        add(all, &rule::DEAD_LETTERS_ARRIVING, subject, 1.0, summary);
    }
    if is_within(letters.newest_reason, NEW_FOR) {
        let summary = format!("{group} has dead letters for a new reason");
        add(all, &rule::NEW_FAILURE_REASON, subject, 1.0, summary);
    }
}

fn count(state: &ServiceState, arrivals: &mut Arrivals, now: Instant) {
    if state.metrics.is_none() {
        return;
    }
    let started = state.samples_of(STARTED_AT).next().map(|it| it.value);
    let started = started.and_then(|it| Duration::try_from_secs_f64(it).ok());
    let process = Process {
        service: state.service.clone(),
        started: started.map(|it| SystemTime::UNIX_EPOCH + it),
    };
    let counters = [(DEFERRED_DROPPED, TASK_LABEL), (MESSAGES_LOST, GROUP_LABEL)];
    let totals = counters.into_iter().flat_map(|(metric, label)| {
        state
            .samples_of(metric)
            .map(move |it| ((metric, it.label(label).unwrap_or_default().to_owned()), it.value))
    });
    arrivals.observe(&process, totals.collect(), now);
}

fn of_arrivals(arrivals: &mut Arrivals, now: Instant, all: &mut Vec<Condition>) {
    let minutes = ARRIVING_FOR.as_secs() / 60;
    for ((service, (metric, label)), increase) in arrivals.within(ARRIVING_FOR, now) {
        if metric == MESSAGES_LOST {
            let summary = format!(
                "{increase} messages were deleted before {label} consumed them, within {minutes} minutes"
            );
            let subject = Subject { service, group: label, ..Subject::default() };
            add(all, &rule::MESSAGES_LOST, &subject, increase, summary);
        } else {
            let summary = format!(
                "{increase} tasks {label} of {service} were dropped within {minutes} minutes"
            );
            let subject = Subject { service, kind: label, ..Subject::default() };
            add(all, &rule::DEFERRED_DROPPED, &subject, increase, summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::client::Metrics;
    use crate::lag::tests::behind;
    use crate::serve::testing::state;

    fn of_one(group: GroupLag) -> Vec<(&'static str, String)> {
        let lag = Lag { at: UNIX_EPOCH, groups: vec![group] };
        let observed = Observed { services: &[], lag: Some(Ok(&lag)) };
        names(conditions(&observed, &mut Arrivals::default(), Instant::now()))
    }

    fn names(conditions: Vec<Condition>) -> Vec<(&'static str, String)> {
        conditions.into_iter().map(|it| (it.rule.name, it.summary)).collect()
    }

    fn only(all: &[(&'static str, String)]) -> Vec<&'static str> {
        all.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn each_kind_of_lag_has_its_alert() {
        assert_eq!(of_one(behind(10_000, 299)), []);
        assert_eq!(only(&of_one(behind(10_001, 299))), ["LagHigh"]);
        assert_eq!(only(&of_one(behind(1, 301))), ["LagSeconds"]);
        let mut group = behind(1, 1);
        group.partitions[0].share_of_retention = Some(0.51);
        group.partitions[0].lost = 3;
        assert_eq!(only(&of_one(group)), ["NearRetention", "MessagesLost"]);
        let mut dead = behind(1, 100);
        dead.members = 0;
        assert_eq!(only(&of_one(dead)), ["Stalled"]);
    }

    #[test]
    fn lag_that_is_unknown_is_no_silence() {
        let mut group = behind(20_000, 1);
        group.missing_topics = vec!["parcels".into()];
        let found = of_one(group);
        assert_eq!(only(&found), ["LagUnknown"]);
        assert!(found[0].1.contains("there is no topic parcels"), "{found:?}");
        let mut unread = behind(1, 1);
        unread.partitions[0].age = None;
        assert_eq!(only(&of_one(unread)), ["LagUnknown"]);
        let observed = Observed { services: &[], lag: Some(Err("no broker")) };
        let found = names(conditions(&observed, &mut Arrivals::default(), Instant::now()));
        assert_eq!(only(&found), ["LagUnknown"]);
    }

    #[test]
    fn what_is_missing_is_unknown_for_its_own_alerts() {
        let mut billing = state("billing");
        billing.letters = Some([].into());
        let mut unread = behind(1, 1);
        unread.unknown = Some("its offsets are unknown".to_owned());
        let lag = Lag { at: SystemTime::now(), groups: vec![unread] };
        let unknown = |lag: Option<Result<&Lag, &str>>, rule: &Rule, service: &str, group: &str| {
            let observed = Observed { services: std::slice::from_ref(&billing), lag };
            let (service, group) = (service.to_owned(), group.to_owned());
            is_unknown(&observed, rule, &Subject { service, group, ..Subject::default() })
        };
        let of_billing = |rule| unknown(Some(Ok(&lag)), rule, "billing", "billing");
        assert!(of_billing(&rule::JOBS_FAILED) && of_billing(&rule::OUTBOX_AGE));
        assert!(!of_billing(&rule::DEAD_LETTERS_ARRIVING) && !of_billing(&rule::SERVICE_DOWN));
        assert!(of_billing(&rule::LAG_HIGH) && !of_billing(&rule::LAG_UNKNOWN));
        assert!(!unknown(Some(Ok(&lag)), &rule::STALLED, "analytics", "analytics"));
        assert!(unknown(Some(Err("no broker")), &rule::STALLED, "analytics", "analytics"));
        for change in [
            (|group| group.missing_topics = vec!["parcels".into()]) as fn(&mut GroupLag),
            |group| group.partitions[0].age = None,
        ] {
            let mut group = behind(1, 1);
            change(&mut group);
            let lag = Lag { at: SystemTime::now(), groups: vec![group] };
            assert!(unknown(Some(Ok(&lag)), &rule::LAG_SECONDS, "billing", "billing"));
        }
        assert!(unknown(Some(Ok(&lag)), &rule::JOBS_FAILED, "order", ""), "no state of it");
    }

    #[test]
    fn other_peoples_groups_have_no_alerts() {
        let mut group = behind(20_000, 1_000);
        group.service = None;
        assert_eq!(of_one(group), []);
    }

    #[test]
    fn what_the_services_say_has_its_alerts() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        let mut observe = |died: u64, counted: f64, outbox: f64| {
            let mut billing = state("billing");
            let last = Some(SystemTime::now() - Duration::from_secs(died));
            let letters = Letters { last, ..Letters::default() };
            billing.letters = Some([("billing".to_owned(), letters)].into());
            billing.metrics = Some(Metrics::read(&format!(
                "{DEFERRED_DROPPED}{{{TASK_LABEL}=\"mail\"}} {counted}\n{OUTBOX_AGE} {outbox}\n\
                 {MESSAGES_LOST}{{{GROUP_LABEL}=\"billing\"}} {counted}\n",
            )));
            let observed = Observed { services: &[billing], lag: None };
            names(conditions(&observed, &mut arrivals, now))
        };
        assert_eq!(observe(301, 2.0, 60.0), [], "earlier values count as no increase");
        let found = observe(290, 3.0, 61.0);
        assert_eq!(
            only(&found),
            ["OutboxAge", "DeadLettersArriving", "MessagesLost", "DeferredDropped"]
        );
        let mut down = state("order");
        down.down = Some("no answer".into());
        down.failed_jobs = Some([("mail".to_owned(), 2), ("webhook".to_owned(), 0)].into());
        let observed = Observed { services: &[down], lag: None };
        let found = names(conditions(&observed, &mut Arrivals::default(), now));
        assert_eq!(only(&found), ["ServiceDown", "JobsFailed"]);
    }
}
