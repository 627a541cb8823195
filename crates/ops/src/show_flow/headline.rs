//! Headline of a node: its kind and its outcome.

use crate::client::Step;
use crate::dlq::words;
use crate::flow::{Content, Delivery, Event, Expected, Job, Lag, Node, OpenRow, Replay};
use crate::plain::{count, plain};

use super::units::number;

/// Layout of a headline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In the tree under its cause, which shows the event's type.
    Tree,
    /// Alone, without its cause.
    Alone,
}

/// Returns the kind of a node and its outcome. Contains no times, so that nodes can be compared by
/// it.
pub(crate) fn headline(node: &Node, layout: Layout) -> String {
    let text = match &node.content {
        Content::Step(it) => step(&it.step),
        Content::Event(it) => event(it),
        Content::Delivery(it) => delivery(it, layout),
        Content::Letter(row) => letter(row, layout),
        Content::Replay(it) => replay(it),
        Content::Job(it) => job(it),
        Content::Open(row) => {
            format!("{}: {}", row.open.kind, row.open.status.as_deref().unwrap_or("open"))
        }
    };
    plain(&text)
}

fn step(step: &Step) -> String {
    let task = step.task.as_ref().map(|task| format!("deferred {task}"));
    let name = step.name.clone().or(task).unwrap_or_else(|| step.kind.clone());
    let status = step.status.map(|status| format!("  {status}")).unwrap_or_default();
    let known = matches!(&*step.kind, "request" | "deferred") || name.starts_with(&step.kind);
    if known { format!("{name}{status}") } else { format!("{} {name}{status}", step.kind) }
}

fn event(event: &Event) -> String {
    let name = event.kind.as_deref().unwrap_or("event");
    let Some(last) = event.published.last() else {
        return match event.outbox {
            Some(_) => format!("{name} waits in the outbox"),
            None => format!("{name}, its publication is not recorded"),
        };
    };
    let step = &last.step;
    let topic = step.topic.as_deref().filter(|topic| *topic != name);
    let topic = topic.map(|topic| format!(" to {topic}")).unwrap_or_default();
    let at = step.partition.zip(step.offset);
    let at = at.map(|(partition, offset)| format!(" {partition}@{offset}")).unwrap_or_default();
    let times = match event.published.len() {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    if step.error.is_some() && event.outbox.is_some() {
        return format!("{name} could not be published{topic}");
    }
    format!("published {name}{topic}{at}{times}")
}

fn delivery(delivery: &Delivery, layout: Layout) -> String {
    let Delivery { group, event_type, steps, parked, inbox, expected, has_letter, .. } = delivery;
    let name = match (layout, event_type) {
        (Layout::Alone, Some(event_type)) => format!("{group}: {event_type} "),
        _ => format!("{group}: "),
    };
    if let Some(expected) = expected {
        return format!("{name}{}", expected_delivery(expected));
    }
    let became = if let Some(first) = delivery.first_outcome() {
        outcome(&steps[first].step)
    } else if let Some(row) = parked {
        let failures = row.open.failures.unwrap_or_default();
        format!("{}, retry under way", count(failures, "attempt failed", "attempts failed"))
    } else if *has_letter {
        "dead-lettered (its step was not kept)".into()
    } else if inbox.is_some() {
        "processed (its step was not kept)".into()
    } else if let Some(last) = steps.last() {
        outcome(&last.step)
    } else {
        "nothing is recorded".into()
    };
    format!("{name}{became}")
}

/// Returns the outcome of a message in one step.
pub(crate) fn outcome(step: &Step) -> String {
    // Only the last attempts are kept if there are many.
    let last = step.attempts.last().and_then(|it| usize::try_from(it.attempt?).ok());
    let failed = step.attempts.len().max(last.unwrap_or_default());
    let attempt = |number: usize| match number {
        0 | 1 => String::new(),
        number => format!(" at attempt {number}"),
    };
    match step.outcome.as_deref() {
        Some("processed") => format!("processed{}", attempt(failed + 1)),
        Some("duplicate") => "duplicate, had been processed before".into(),
        Some("superseded") => "superseded, a newer version had been processed".into(),
        Some("ignored") => "ignored, the group does not handle its type".into(),
        Some("dead-lettered") if failed > 1 => format!("dead-lettered after {failed} attempts"),
        Some(other) => other.to_owned(),
        None if step.error.is_some() => "failed".into(),
        None if !step.attempts.is_empty() => "failed, to be retried".into(),
        None => "done".into(),
    }
}

fn expected_delivery(expected: &Expected) -> String {
    let waits = match &expected.lag {
        Lag::Unpublished => "once it is published".to_owned(),
        Lag::Behind(0) => "it is the next message".into(),
        Lag::Behind(1) => "waits behind 1 message".into(),
        Lag::Behind(messages) => format!("waits behind {} messages", number(*messages)),
        Lag::Passed => "its offset was passed, and no record is kept".into(),
        Lag::NothingCommitted => "the group has committed nothing here".into(),
        Lag::Unknown(why) => format!("not seen yet; {why}"),
    };
    let state = expected.state.as_ref().map(|state| format!("; {state}")).unwrap_or_default();
    format!("expected, {waits}{state}")
}

fn letter(row: &OpenRow, layout: Layout) -> String {
    let status = row.open.status.as_deref().unwrap_or("of an unknown status");
    let status = match status {
        "dead" => "open",
        "replaying" => "being replayed",
        status => status,
    };
    match (layout, &row.open.group) {
        (Layout::Alone, Some(group)) => format!("{group}: dead letter, {status}"),
        _ => format!("dead letter, {status}"),
    }
}

fn replay(replay: &Replay) -> String {
    let row = replay.row.as_ref().map(|it| &it.open);
    let by = row.and_then(|it| it.by.as_ref()).map(|by| format!(" by {by}")).unwrap_or_default();
    let is_rehearsal = replay.is_rehearsal();
    let name = if is_rehearsal { "rehearsal" } else { "replay" };
    let status = row.and_then(|it| it.status.as_deref());
    let became = match (replay.outcome(), status) {
        (None, Some(status @ ("queued" | "running" | "paused" | "cancelled"))) => status.to_owned(),
        // The reason follows on its own line.
        (outcome, _) => words::outcome(outcome, None, is_rehearsal),
    };
    format!("{name}{by}: {became}")
}

fn job(job: &Job) -> String {
    let name = job.kind.as_ref().map_or_else(|| "job".to_owned(), |kind| format!("job {kind}"));
    let runs =
        job.runs.last().and_then(|it| it.step.attempt.and_then(|it| usize::try_from(it).ok()));
    let runs = runs.unwrap_or(job.runs.len());
    let Some(row) = &job.row else {
        let attempt = if runs > 1 { format!(" at attempt {runs}") } else { String::new() };
        let is_done = job.runs.last().is_some_and(|it| it.step.error.is_none());
        let outcome = job.runs.last().and_then(|it| it.step.outcome.as_deref());
        return match outcome {
            Some("succeeded") => format!("{name}: done{attempt}"),
            None if is_done => format!("{name}: done{attempt}"),
            None => format!("{name}: failed{attempt}"),
            Some(outcome) => format!("{name}: {outcome}{attempt}"),
        };
    };
    let attempts = row.open.attempts.unwrap_or_default();
    match row.open.state.as_deref() {
        Some("failed") => {
            format!("{name}: failed after {}", count(attempts, "attempt", "attempts"))
        }
        Some("running") => format!("{name}: running"),
        state => {
            let due = row.open.due_at.as_ref().map(|at| format!(", due {at}")).unwrap_or_default();
            let failed = match attempts {
                0 => String::new(),
                attempts => format!(" after {}", count(attempts, "attempt", "attempts")),
            };
            format!("{name}: {}{failed}{due}", state.unwrap_or("waiting"))
        }
    }
}

/// Returns the text without numbers and ids. Similar texts have the same shape.
pub(super) fn shape(text: &str) -> String {
    let is_id = |word: &str| {
        word.len() >= 8
            && word.contains(|c: char| c.is_ascii_digit())
            && word.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-')
    };
    let mut shape = String::with_capacity(text.len());
    for word in text.split(' ') {
        if is_id(word) {
            shape.push('#');
        } else {
            for c in word.chars() {
                let is_number = c.is_ascii_digit() || (c == ',' && shape.ends_with('#'));
                match is_number {
                    true if shape.ends_with('#') => {}
                    true => shape.push('#'),
                    false => shape.push(c),
                }
            }
        }
        shape.push(' ');
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_by_numbers_and_ids_are_alike() {
        let one = "waits behind 1,204 messages of 01a20a9a-7779-774a-8232-000000000001 3@17";
        let other = "waits behind 7 messages of 01a20a9b-7779-774a-8232-0000000000ff 12@4";
        assert_eq!(shape(one), shape(other));
        assert_ne!(shape("failed"), shape("processed"));
    }

    #[test]
    fn every_lag_says_what_the_event_waits_for() {
        let text = |lag, state: Option<&str>| {
            expected_delivery(&Expected { lag, state: state.map(ToOwned::to_owned) })
        };
        assert_eq!(text(Lag::Behind(1204), None), "expected, waits behind 1,204 messages");
        assert_eq!(
            text(Lag::Behind(0), Some("paused by ada: repair")),
            "expected, it is the next message; paused by ada: repair"
        );
        assert_eq!(
            text(Lag::Passed, None),
            "expected, its offset was passed, and no record is kept"
        );
        assert_eq!(text(Lag::Unpublished, None), "expected, once it is published");
    }
}
