//! Findings of a flow, each with a link to the page where an operator can act.

use crate::console::address::escaped;
use crate::flow::{Finding, Flow};
use crate::plain::{count, plain};
use crate::show_flow::number;

/// Maximum number of findings to list; the picture and the text contain all.
const NAMED: usize = 8;

/// A sentence about a finding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) is_failure: bool,
    pub(super) sentence: String,
    pub(super) link: Option<Link>,
}

/// A link to a page where an operator can act.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: String,
    pub(super) title: &'static str,
}

/// Returns a sentence for each finding, failures first, and the number of the others.
pub(super) fn advice(flow: &Flow) -> (Vec<Advice>, usize) {
    let mut all: Vec<Advice> = Vec::new();
    for finding in flow.findings() {
        let advice = of_failure(&finding).or_else(|| of_wait(&finding));
        let Some((sentence, link)) = advice else { continue };
        if !all.iter().any(|it| it.sentence == sentence && it.link == link) {
            all.push(Advice { is_failure: finding.is_failure(), sentence, link });
        }
    }
    all.sort_by_key(|it| !it.is_failure);
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    (all, more)
}

fn link(path: String, title: &'static str) -> Link {
    Link { path, title }
}

/// Returns the sentence of a failure. Returns `None` for open work.
fn of_failure(finding: &Finding) -> Option<(String, Option<Link>)> {
    Some(match finding {
        Finding::Unreachable { service, .. } => (
            format!("{} can't be reached: its data is missing here.", plain(service)),
            Some(link("/".into(), "See the services")),
        ),
        Finding::Unavailable { service, why } => {
            (format!("{} could not read its {}.", plain(service), plain(why)), None)
        }
        Finding::DeadLetter { service, group, letter_id, status } => {
            let is_replayed = status == "replaying";
            let text = if is_replayed { "replays a dead letter" } else { "has a dead letter" };
            let path = format!("/failures/letters/{}/{}", escaped(service), escaped(letter_id));
            let title = if is_replayed { "Watch it" } else { "Rehearse and replay it" };
            (format!("{} {text}.", plain(group)), Some(link(path, title)))
        }
        Finding::FailedJob { service, job_id, job_kind } => {
            let path = format!("/jobs/{}/{}", escaped(service), escaped(job_id));
            (format!("A job failed: {}.", plain(job_kind)), Some(link(path, "Retry or discard it")))
        }
        Finding::FailedStep { service, what } => {
            let text = "failed, and no later attempt succeeded";
            (format!("{}: {} {text}.", plain(service), plain(what)), None)
        }
        Finding::Passed { group, event_type, .. } => {
            let text = "without a record of it. Did it subscribe to this type later?";
            let sentence =
                format!("{} has committed past {} {text}", plain(group), plain(event_type));
            (sentence, Some(link(of_group(group), "See the subscription")))
        }
        Finding::Expected { .. }
        | Finding::Unpublished { .. }
        | Finding::Retrying { .. }
        | Finding::Job { .. }
        | Finding::Replay { .. } => return None,
    })
}

/// Returns the sentence of open work. Returns `None` for a failure.
fn of_wait(finding: &Finding) -> Option<(String, Option<Link>)> {
    Some(match finding {
        Finding::Expected { group, event_type, behind, .. } => {
            let behind = behind.map(|it| match it {
                0 => "; it is the next message".to_owned(),
                1 => "; 1 message comes first".to_owned(),
                it => format!("; {} messages come first", number(it)),
            });
            let text = format!("{} has not received {} yet", plain(group), plain(event_type));
            (
                format!("{text}{}.", behind.unwrap_or_default()),
                Some(link(of_group(group), "See its lag")),
            )
        }
        Finding::Unpublished { service, event_type } => {
            let sentence =
                format!("{} waits in the outbox of {}.", plain(event_type), plain(service));
            (sentence, Some(link("/".into(), "See the outbox")))
        }
        Finding::Retrying { group, failures, .. } => {
            let failures = count(*failures, "failed attempt", "failed attempts");
            (format!("{} retries after {failures}.", plain(group)), None)
        }
        Finding::Job { service, job_id, job_kind } => {
            let path = format!("/jobs/{}/{}", escaped(service), escaped(job_id));
            (format!("A job is not done: {}.", plain(job_kind)), Some(link(path, "See the job")))
        }
        Finding::Replay { service, replay_id, status } => {
            let path = format!("/replays/{}/{}", escaped(service), escaped(replay_id));
            (format!("A replay is {}.", plain(status)), Some(link(path, "Watch it")))
        }
        Finding::Unreachable { .. }
        | Finding::Unavailable { .. }
        | Finding::DeadLetter { .. }
        | Finding::FailedJob { .. }
        | Finding::FailedStep { .. }
        | Finding::Passed { .. } => return None,
    })
}

fn of_group(group: &str) -> String {
    format!("/lag#lag-{}", escaped(group))
}

#[cfg(test)]
mod tests {
    use super::super::stories::{failed, waiting, well};
    use super::*;

    #[test]
    fn what_can_be_done_has_a_link() {
        let (all, more) = advice(&failed());
        assert_eq!((all.len(), more), (1, 0));
        assert_eq!(all[0].sentence, "billing has a dead letter.");
        let path = &all[0].link.as_ref().unwrap().path;
        assert!(path.starts_with("/failures/letters/billing/01a20a9a"), "{path}");
        let (all, _) = advice(&waiting());
        let sentences: Vec<_> = all.iter().map(|it| it.sentence.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "notification retries after 2 failed attempts.",
                "analytics has not received order.completed yet; 1,204 messages come first."
            ]
        );
        assert_eq!(advice(&well()).0, []);
    }
}
