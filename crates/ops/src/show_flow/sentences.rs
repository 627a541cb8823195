//! Sentences below the tree: each problem or open work, and what to do next.

use std::io::{self, Write};

use crate::flow::{Finding, Flow};
use crate::plain::plain;

use super::color::{Colors, Tone};
use super::units::number;
use super::wrap::wrap;

const WIDTH: usize = 80;
/// Maximum number of findings to show; the tree and `--json` contain all.
const NAMED: usize = 8;

/// Writes a sentence for each finding. Findings that differ only in numbers are written once.
pub(super) fn write(out: &mut impl Write, flow: &Flow, colors: Colors) -> io::Result<()> {
    let mut sentences: Vec<(Tone, String)> = Vec::new();
    for finding in flow.findings() {
        let tone = if finding.is_failure() { Tone::Failed } else { Tone::Waiting };
        let sentence = plain(&sentence(&finding));
        if !sentences.iter().any(|(_, it)| *it == sentence) {
            sentences.push((tone, sentence));
        }
    }
    // Failures first, else in the order of the findings.
    sentences.sort_by_key(|(tone, _)| std::cmp::Reverse(*tone));
    if !sentences.is_empty() {
        writeln!(out)?;
    }
    for (tone, sentence) in sentences.iter().take(NAMED) {
        for (at, part) in wrap(sentence, WIDTH - 2).iter().enumerate() {
            let indent = if at == 0 { "" } else { "  " };
            writeln!(out, "{indent}{}", colors.tone(*tone, part))?;
        }
    }
    if sentences.len() > NAMED {
        writeln!(out, "... and {} more; --json has all", sentences.len() - NAMED)?;
    }
    Ok(())
}

fn sentence(finding: &Finding) -> String {
    match finding {
        Finding::Unreachable { service, .. } => {
            format!("{service} can't be reached: its data is missing here; see `orderflow status`")
        }
        Finding::Unavailable { service, why } => format!("{service} could not read its {why}"),
        Finding::DeadLetter { group, letter_id, status, .. } if status == "replaying" => {
            format!("{group} replays a dead letter: `orderflow dlq show {letter_id}`")
        }
        Finding::DeadLetter { group, letter_id, .. } => format!(
            "{group} has a dead letter: `orderflow dlq show {letter_id}`, then rehearse and replay it"
        ),
        Finding::FailedJob { job_id, job_kind, .. } => {
            format!("a job failed, {job_kind}: `orderflow jobs show {job_id}`")
        }
        Finding::FailedStep { service, what } => {
            format!("{service}: {what} failed, and no later attempt succeeded")
        }
        Finding::Passed { group, event_type, .. } => format!(
            "{group} has committed past {event_type} without a record of it: did it subscribe to this type later?"
        ),
        Finding::Expected { group, event_type, behind, .. } => {
            let behind = behind.map(|it| match it {
                0 => " it is the next message;".to_owned(),
                1 => " 1 message comes first;".to_owned(),
                it => format!(" {} messages come first;", number(it)),
            });
            format!(
                "{group} has not received {event_type} yet;{} see `orderflow lag --group {group}`",
                behind.unwrap_or_default()
            )
        }
        Finding::Unpublished { service, event_type } => {
            format!("{event_type} waits in the outbox of {service}: see `orderflow status`")
        }
        Finding::Retrying { group, failures, .. } => {
            format!("{group} retries, failed attempts so far: {failures}")
        }
        Finding::Job { job_id, job_kind, .. } => {
            format!("a job is not done, {job_kind}: `orderflow jobs show {job_id}`")
        }
        Finding::Replay { replay_id, status, .. } => {
            format!("a replay is {status}: `orderflow dlq replays watch {replay_id}`")
        }
    }
}
