//! Failed work that waits for an operator.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::line::StatusLine;
use super::snapshot::{ServiceStatus, unknown};
use crate::client::{Answer, LetterGroup, Replay};
use crate::plain::{count, plain};
use crate::shell;

/// Maximum number of kinds of failures to show, the largest first.
const SHOWN: usize = 3;

/// Returns the line of open dead letters, by kind of failure. Ignored groups are no problem.
pub(super) fn letters(services: &[ServiceStatus]) -> StatusLine {
    let groups = services.iter().filter_map(|it| it.letter_groups.as_ref().ok()).flatten();
    let mut groups: Vec<&Answer<LetterGroup>> =
        groups.filter(|group| group.status != "ignored").collect();
    groups.sort_by_key(|group| Reverse(group.open));
    let (unknown, unreachable) = unknown(services, |it| &it.letter_groups);
    let Some(worst) = groups.first() else {
        return StatusLine::well("dead letters", "none open").without(&unknown, &unreachable);
    };
    let details = shown(groups.iter().map(|group| {
        let LetterGroup { group: name, open, reason, status, .. } = &***group;
        let note = if status == "open" { String::new() } else { format!(" ({status})") };
        plain(&format!("{name}: {open}{note}: {reason}"))
    }));
    let open: u64 = groups.iter().map(|group| group.open).sum();
    let next = format!("orderflow dlq groups --group {}", argument(&worst.group));
    let line = StatusLine::bad("dead letters", format!("{open} open")).details(details);
    line.without(&unknown, &unreachable).next(next)
}

/// Returns the line of jobs that have failed for good, by kind.
pub(super) fn jobs(services: &[ServiceStatus]) -> StatusLine {
    let (unknown, unreachable) = unknown(services, |it| &it.failed_jobs);
    let kinds = failed_by_kind(services);
    let Some(((service, _), _)) = kinds.first() else {
        return StatusLine::well("jobs", "none failed").without(&unknown, &unreachable);
    };
    let at_least = services.iter().any(|it| matches!(&it.failed_jobs, Ok((_, false))));
    let failed: u64 = kinds.iter().map(|(_, jobs)| jobs).sum();
    let at_least = if at_least { "at least " } else { "" };
    let details = shown(
        kinds.iter().map(|((service, kind), jobs)| plain(&format!("{service}: {jobs} {kind}"))),
    );
    let next = format!("orderflow jobs list --state failed --service {}", argument(service));
    let line = StatusLine::bad("jobs", format!("{at_least}{failed} failed")).details(details);
    line.without(&unknown, &unreachable).next(next)
}

/// Returns the number of failed jobs by service and kind, the largest first.
pub(super) fn failed_by_kind(services: &[ServiceStatus]) -> Vec<((String, String), u64)> {
    let mut kinds = BTreeMap::new();
    for (jobs, _) in services.iter().filter_map(|it| it.failed_jobs.as_ref().ok()) {
        for job in jobs {
            *kinds.entry((job.service.clone(), job.kind.clone())).or_default() += 1;
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, jobs)| Reverse(*jobs));
    kinds
}

/// Returns the line of unfinished replays and rehearsals. A paused one waits for an operator.
pub(super) fn replays(services: &[ServiceStatus]) -> StatusLine {
    let replays = services.iter().filter_map(|it| it.replays.as_ref().ok()).flatten();
    let replays: Vec<&Answer<Replay>> = replays.collect();
    let (unknown, unreachable) = unknown(services, |it| &it.replays);
    let details = shown(replays.iter().map(|replay| {
        let Replay { group, rehearsal, status, selected, outcomes, .. } = &***replay;
        let what = if *rehearsal { "rehearsal" } else { "replay" };
        plain(&format!("{group}: {what} {status}, {} of {selected}", outcomes.settled()))
    }));
    let paused = replays.iter().find(|replay| replay.status == "paused");
    let line = match (paused, replays.len()) {
        (_, 0) => StatusLine::well("replays", "none running"),
        (None, running) => {
            StatusLine::well("replays", format!("{running} running")).details(details)
        }
        (Some(paused), _) => {
            let text = format!("{} not ended", count(replays.len() as u64, "replay", "replays"));
            let next = format!("orderflow dlq replays show {}", paused.id);
            StatusLine::bad("replays", text).details(details).next(next)
        }
    };
    line.without(&unknown, &unreachable)
}

/// Quotes a name for a shell.
fn argument(name: &str) -> String {
    shell::word(name.as_bytes()).unwrap_or_else(|| "..".to_owned())
}

/// Returns the first few texts, and the number of the others.
fn shown(all: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let others = all.len().saturating_sub(SHOWN);
    let mut shown: Vec<_> = all.take(SHOWN).collect();
    if others > 0 {
        shown.push(format!("and {}", count(others as u64, "other", "others")));
    }
    shown
}
