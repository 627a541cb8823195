use std::cmp::Reverse;
use std::time::Duration;

use crate::client::LetterGroup;
use crate::console::tone::Tone;
use crate::lag::words::grouped;
use crate::lag::{GroupLag, LAG_THRESHOLD};
use crate::moment::rough;
use crate::plain::count;
use crate::serve::{MOST_JOBS, ServiceState};

/// A figure, with a link to the page that explains it.
pub(super) struct Stat {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) path: &'static str,
    pub(super) tone: Tone,
    /// The problem, for the headline.
    pub(super) trouble: Option<String>,
}

impl Stat {
    fn new(label: &'static str, path: &'static str, value: impl Into<String>) -> Self {
        let (value, note) = (value.into(), String::new());
        Self { label, value, note, path, tone: Tone::Plain, trouble: None }
    }

    fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn trouble(self, tone: Tone, trouble: impl Into<String>) -> Self {
        Self { tone, trouble: Some(trouble.into()), ..self }
    }
}

/// Returns the figures of the whole system.
pub(super) fn all(states: &[ServiceState], is_measured: bool, lag: &[&GroupLag]) -> Vec<Stat> {
    vec![
        services(states),
        letters(states),
        jobs(states),
        behind(is_measured, lag),
        subscriptions(states),
        outbox(states),
    ]
}

fn services(states: &[ServiceState]) -> Stat {
    let troubles = states.iter().filter_map(|it| Some((&*it.service, it.trouble()?)));
    let troubles: Vec<_> = troubles.collect();
    let value = format!("{} / {}", states.len() - troubles.len(), states.len());
    let stat = Stat::new("services ready", "#services", value);
    let tone = if states.iter().any(|it| it.down.is_some()) { Tone::Bad } else { Tone::Warn };
    match &troubles[..] {
        [] => stat,
        [(service, what)] => stat.note(*service).trouble(tone, format!("{service} is {what}")),
        several => {
            let names: Vec<_> = several.iter().map(|(service, _)| *service).collect();
            let trouble = format!("{} services are not ready", names.len());
            stat.note(names.join(", ")).trouble(tone, trouble)
        }
    }
}

impl Stat {
    /// Notes the services of which this part is missing. That is a problem if they are ready, since
    /// a service that is not has one already.
    fn unless_unknown<T>(
        self,
        states: &[ServiceState],
        part: impl Fn(&ServiceState) -> &Option<T>,
    ) -> Self {
        let silent: Vec<_> = states.iter().filter(|it| part(it).is_none()).collect();
        let names =
            |of: &[&ServiceState]| of.iter().map(|it| &*it.service).collect::<Vec<_>>().join(", ");
        if silent.is_empty() {
            return self;
        }
        let ready: Vec<_> = silent.iter().copied().filter(|it| it.down.is_none()).collect();
        let trouble = format!("{}: unknown in {}", self.label, names(&ready));
        let stat = self.note(format!("unknown in {}", names(&silent)));
        if ready.is_empty() { stat } else { stat.trouble(Tone::Warn, trouble) }
    }
}

fn letters(states: &[ServiceState]) -> Stat {
    let groups = states.iter().flat_map(|it| it.letters.iter().flatten());
    let groups = groups.flat_map(|(_, letters)| &letters.groups);
    let mut groups: Vec<&LetterGroup> =
        groups.filter(|it| it.open > 0 && it.status != "ignored").collect();
    groups.sort_by_key(|it| Reverse(it.open));
    let open: u64 = groups.iter().map(|it| it.open).sum();
    let stat = Stat::new("dead letters open", "/failures", grouped(open));
    let reasons = count(groups.len() as u64, "reason", "reasons");
    match groups.first() {
        None => stat.unless_unknown(states, |it| &it.letters),
        Some(worst) => stat
            .note(format!("{reasons}, most in {}", worst.group))
            .trouble(Tone::Bad, count(open, "dead letter waits", "dead letters wait")),
    }
}

fn jobs(states: &[ServiceState]) -> Stat {
    let kinds = states.iter().flat_map(|it| it.failed_jobs.iter().flatten());
    let mut kinds: Vec<_> = kinds.filter(|(_, failed)| **failed > 0).collect();
    kinds.sort_by_key(|(_, failed)| Reverse(**failed));
    let failed: u64 = kinds.iter().map(|(_, failed)| **failed).sum();
    let stat = Stat::new("failed jobs", "/jobs?state=failed", grouped(failed));
    match kinds.first() {
        None => stat.unless_unknown(states, |it| &it.failed_jobs),
        Some((worst, most)) => {
            let failed = count(failed, "job has failed", "jobs have failed");
            let at_least = if **most < MOST_JOBS as u64 { "" } else { "at least " };
            stat.note(format!("most {worst}")).trouble(Tone::Bad, format!("{at_least}{failed}"))
        }
    }
}

fn behind(is_measured: bool, lag: &[&GroupLag]) -> Stat {
    if !is_measured {
        return Stat::new("messages behind", "/lag", "?").note("not measured");
    }
    let worst = lag.iter().filter_map(|it| Some((it.messages()?, it))).max_by_key(|it| it.0);
    let most = worst.map_or(0, |(messages, _)| messages);
    let stat = Stat::new("messages behind", "/lag", grouped(most));
    let stat = match worst {
        Some((1.., group)) => {
            let age = group.age().filter(|age| *age >= Duration::from_secs(1));
            let age = age.map(|age| format!(", {}", rough(age))).unwrap_or_default();
            stat.note(format!("at most: {}{age}", group.group))
        }
        _ => stat.note("every group"),
    };
    let unhealthy = lag.iter().filter(|it| !it.is_well(LAG_THRESHOLD));
    let unhealthy: Vec<_> =
        unhealthy.map(|it| format!("{}: {}", it.group, it.state(LAG_THRESHOLD))).collect();
    match &unhealthy[..] {
        [] => stat,
        [one] => stat.note(one).trouble(Tone::Bad, format!("the lag of {one}")),
        several => stat
            .note(several.join(", "))
            .trouble(Tone::Bad, format!("the lag of {} groups is not well", several.len())),
    }
}

fn subscriptions(states: &[ServiceState]) -> Stat {
    let all = states.iter().flat_map(|it| it.subscriptions.iter().flatten());
    let all: Vec<_> = all.collect();
    let held_up: Vec<_> = all.iter().filter_map(|it| Some((&*it.group, it.trouble()?))).collect();
    let value = format!("{} / {}", all.len() - held_up.len(), all.len());
    let stat = Stat::new("subscriptions running", "/lag#subscriptions", value);
    match &held_up[..] {
        [] => stat.unless_unknown(states, |it| &it.subscriptions),
        [(group, why), others @ ..] => {
            let paused = held_up.iter().all(|(_, why)| why.starts_with("paused"));
            let (tone, how) = if paused {
                (Tone::Warn, "paused")
            } else if held_up.iter().all(|(_, why)| Tone::of_state(why) == Tone::Warn) {
                (Tone::Warn, "not running")
            } else {
                (Tone::Bad, "stopped")
            };
            let others = if others.is_empty() {
                String::new()
            } else {
                format!(" and {}", count(others.len() as u64, "other", "others"))
            };
            stat.note(format!("{group}: {why}")).trouble(tone, format!("{group}{others}: {how}"))
        }
    }
}

fn outbox(states: &[ServiceState]) -> Stat {
    let outboxes =
        states.iter().filter_map(|it| Some((&*it.service, it.metrics.as_ref()?.outbox()?)));
    let outboxes: Vec<_> = outboxes.collect();
    let waiting: u64 = outboxes.iter().map(|(_, it)| it.depth).sum();
    let oldest = outboxes.iter().filter(|(_, it)| it.depth > 0).max_by_key(|(_, it)| it.age);
    let value = oldest.map_or_else(|| "0 s".to_owned(), |(_, it)| rough(it.age));
    let stat = Stat::new("oldest in an outbox", "#services", value);
    match oldest {
        None => stat.note("empty").unless_unknown(states, |it| &it.metrics),
        Some((service, outbox)) => {
            let stat =
                stat.note(format!("{} in {service}", count(waiting, "event waits", "events wait")));
            if !outbox.is_late() {
                return stat;
            }
            stat.trouble(Tone::Bad, format!("events wait in the outbox of {service}"))
        }
    }
}
