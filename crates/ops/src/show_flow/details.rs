//! Lines below a headline: errors, attempts, ids.

use crate::client::Step;
use crate::flow::{Content, Delivery, Event, Job, Node, OpenRow, Recorded, Timestamp};
use crate::plain::plain;

use super::headline::outcome;
use super::units::duration;

/// Returns the lines below a headline. `cause` is the node above, and `all` adds ids.
pub(crate) fn details(node: &Node, cause: Option<&Node>, all: bool) -> Vec<String> {
    let mut details = match &node.content {
        Content::Step(it) => it.step.error.iter().cloned().collect(),
        Content::Event(it) => of_event(it),
        Content::Delivery(it) => of_delivery(it),
        Content::Letter(row) => of_letter(row, cause),
        Content::Replay(replay) => {
            let why = replay.row.as_ref().and_then(|it| it.open.why.as_ref());
            let reason = replay.row.as_ref().and_then(|it| it.open.reason.clone());
            let error = replay.steps.iter().rev().find_map(|it| it.step.error.clone()).or(reason);
            why.map(|why| format!("why: {why}")).into_iter().chain(error).collect()
        }
        Content::Job(job) => of_job(job),
        Content::Open(row) => row.open.error.iter().chain(&row.open.reason).cloned().collect(),
    };
    if all {
        details.extend(ids(node));
        details.dedup();
    }
    details.iter().map(|it| plain(it)).collect()
}

/// Returns the errors of a node, which distinguish it from similar nodes.
pub(super) fn errors(node: &Node) -> Vec<String> {
    let steps = node.content.steps();
    let attempts =
        steps.iter().flat_map(|it| it.step.attempts.iter().filter_map(|it| it.error.clone()));
    let errors = steps.iter().filter_map(|it| it.step.error.clone());
    let rows = node.content.rows();
    let rows =
        rows.iter().flat_map(|it| it.open.error.clone().into_iter().chain(it.open.reason.clone()));
    attempts.chain(errors).chain(rows).collect()
}

fn of_event(event: &Event) -> Vec<String> {
    let wait = event.waits.first().and_then(|it| it.period);
    let wait = wait.map(|it| format!("outbox wait {}", duration(it.end.since(it.start))));
    let error = event.published.last().and_then(|it| it.step.error.clone());
    wait.into_iter().chain(error.filter(|_| event.outbox.is_some())).collect()
}

fn of_delivery(delivery: &Delivery) -> Vec<String> {
    let mut details = Vec::new();
    let in_headline = delivery.first_outcome();
    for (at, recorded) in delivery.steps.iter().enumerate() {
        if at > 0 && in_headline != Some(at) {
            details.push(format!("again: {}", outcome(&recorded.step)));
        }
        details.extend(attempts(&recorded.step));
    }
    if let Some(row) = &delivery.parked
        && details.is_empty()
    {
        details.extend(row.open.error.clone());
    }
    details
}

/// Returns a line for each failed attempt, or the error of a step that has none.
fn attempts(step: &Step) -> Vec<String> {
    if step.attempts.is_empty() {
        return step.error.iter().cloned().collect();
    }
    let start = step.started_at.as_deref().and_then(Timestamp::parse);
    let failed = step.attempts.iter().enumerate().map(|(at, it)| {
        let number = it.attempt.map_or_else(|| (at + 1).to_string(), |number| number.to_string());
        let after = it.at.as_deref().and_then(Timestamp::parse).zip(start);
        (number, after.map(|(at, start)| at.since(start)), it.error.clone().unwrap_or_default())
    });
    lines(failed)
}

/// Returns lines of attempts with number, time and error. An error that comes again is not
/// repeated.
fn lines(failed: impl Iterator<Item = (String, Option<i64>, String)>) -> Vec<String> {
    let mut last = None;
    let line = |(number, after, error): (String, Option<i64>, String)| {
        let after = after.map(|it| format!("+{}", duration(it))).unwrap_or_default();
        let is_same = last.as_ref() == Some(&error);
        let text = if is_same { "the same".to_owned() } else { error.clone() };
        last = Some(error);
        format!("{number}  {after:<8} {text}")
    };
    failed.map(line).collect()
}

fn of_letter(row: &OpenRow, cause: Option<&Node>) -> Vec<String> {
    let errors_of_cause = cause.map(errors).unwrap_or_default();
    let reason = row
        .open
        .reason
        .iter()
        .filter(|reason| !errors_of_cause.iter().any(|it| it.contains(&***reason)));
    row.open.letter_id.iter().chain(reason).cloned().collect()
}

fn of_job(job: &Job) -> Vec<String> {
    let start = job.runs.first().and_then(|it| it.period).map(|it| it.start);
    let failed = job.runs.iter().enumerate().filter_map(|(at, it)| {
        let error = it.step.error.clone()?;
        let number = it.step.attempt.map_or_else(|| (at + 1).to_string(), |it| it.to_string());
        Some((number, it.period.zip(start).map(|(it, start)| it.start.since(start)), error))
    });
    let mut details = lines(failed);
    if let Some(row) = &job.row {
        if details.is_empty() {
            details.extend(row.open.error.clone());
        }
        if row.open.state.as_deref() == Some("failed") {
            details.push(format!("job {}", job.id));
        }
    }
    details
}

/// Returns the ids of a node, for searching.
fn ids(node: &Node) -> Vec<String> {
    let of = |name: &str, id: Option<&String>| id.map(|id| format!("{name} {id}"));
    let first = |id: fn(&Step) -> Option<&String>| {
        node.content.steps().into_iter().find_map(|it: &Recorded| id(&it.step)).cloned()
    };
    let ids = match &node.content {
        Content::Event(event) => vec![of("event", Some(&event.id))],
        Content::Job(job) => vec![of("job", Some(&job.id))],
        Content::Step(_) => vec![of("trace", first(|it| it.trace_id.as_ref()).as_ref())],
        Content::Replay(replay) => {
            let row = replay.row.as_ref().and_then(|it| it.open.replay_id.clone());
            vec![of("replay", row.or_else(|| first(|it| it.replay_id.as_ref())).as_ref())]
        }
        Content::Delivery(_) | Content::Letter(_) | Content::Open(_) => Vec::new(),
    };
    ids.into_iter().flatten().collect()
}
