//! `list`.

use std::io::{self, Write};

use clap::Args;

use super::Context;
use crate::amount::Amount;
use crate::client::{Job, JobFilter, JobState, Merged, Order};
use crate::error::{Error, name_unavailable};
use crate::json;
use crate::moment::when;
use crate::plain::{count, plain};
use crate::style::{Tone, paint};

/// Maximum number of hidden jobs to count. Each thousand takes a request.
const COUNTED: u64 = 10_000;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: JobFilter,
    #[command(flatten)]
    amount: Amount,
}

pub(super) async fn run(context: &mut Context, arguments: &Arguments) -> Result<u8, Error> {
    let (filter, limit) = (&arguments.filter, arguments.amount.limit());
    let clients = context.clients()?;
    let listings = clients.iter().map(|client| client.jobs(filter)).collect();
    let mut jobs = Merged::new(listings, limit, Order::Newest);
    if context.json {
        json::list(&mut context.out, "jobs", &mut jobs, limit).await?;
    } else {
        table(context, filter, &mut jobs, limit).await?;
    }
    Ok(name_unavailable(&jobs.unavailable))
}

async fn table(
    context: &mut Context,
    filter: &JobFilter,
    jobs: &mut Merged<Job>,
    limit: usize,
) -> Result<(), Error> {
    let out = &mut context.out;
    let mut shown = 0;
    while shown < limit
        && !out.is_closed()
        && let Some(job) = jobs.next().await?
    {
        write_job(out, &job)?;
        shown += 1;
    }
    if out.is_closed() {
        return Ok(());
    }
    let state = filter.state.map(JobState::as_str).map(|it| format!("{it} ")).unwrap_or_default();
    let more = if shown == 0 { 0 } else { jobs.count(COUNTED).await? };
    match (shown, more) {
        // If a service did not answer, the list may be incomplete.
        (0, _) if !jobs.unavailable.is_empty() => {}
        (0, _) => writeln!(out, "There are no such jobs; completed jobs are not kept.")?,
        (shown, 0) => {
            let jobs = count(shown as u64, &format!("{state}job"), &format!("{state}jobs"));
            writeln!(out, "{jobs}.")?;
        }
        (shown, more) => {
            let than = if more == COUNTED { "more than " } else { "" };
            let all = shown as u64 + more;
            writeln!(out, "{shown} of {than}{all} {state}jobs; {than}{more} more with --all.")?;
        }
    }
    Ok(())
}

/// Writes a job. The first line contains its id with service, kind and state.
pub(super) fn write_job(out: &mut impl Write, job: &Job) -> io::Result<()> {
    let Job { id, service, kind, state, attempts, .. } = job;
    let state = paint(tone(state), &plain(state));
    writeln!(out, "{id}   {}   {}   {state}", plain(service), plain(kind))?;
    let attempts = count(*attempts, "attempt", "attempts");
    writeln!(out, "   enqueued     {}, {attempts}", when(&job.created_at))?;
    match (&job.failed_at, &*job.state) {
        (Some(failed_at), _) => writeln!(out, "   failed       {}", when(failed_at))?,
        (None, "running") => writeln!(out, "   leased until {}", when(&job.run_at))?,
        (None, _) => writeln!(out, "   due          {}", when(&job.run_at))?,
    }
    for (name, value) in [
        ("subject", &job.subject),
        ("correlation", &job.correlation_id),
        ("unique key", &job.unique_key),
        ("error", &job.last_error),
    ] {
        if let Some(value) = value {
            writeln!(out, "   {name:<12} {}", plain(value))?;
        }
    }
    writeln!(out)
}

fn tone(state: &str) -> Tone {
    match state {
        "failed" => Tone::Bad,
        "running" => Tone::Well,
        _ => Tone::Caution,
    }
}

#[cfg(test)]
pub(super) fn job(number: u32, kind: &str, error: &str) -> Job {
    serde_json::from_value(serde_json::json!({
        "service": "notification", "id": format!("01a20a9a-7779-774a-8232-{number:012}"), "kind": kind,
        "state": "failed", "attempts": 4, "subject": "s1", "correlation_id": null, "unique_key": null,
        "created_at": "2026-11-26T01:30:12Z", "run_at": "2026-11-26T01:30:13Z",
        "failed_at": "2026-11-26T01:30:14Z", "last_error": error,
    }))
    .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_can_not_control_the_terminal() {
        let mut text = Vec::new();
        write_job(&mut text, &job(1, "k\u{9b}2J", "a\ncaused by: \u{1b}]0;owned")).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        for line in
            ["failed       2026-11-26 01:30:14 UTC", "error        a\\ncaused by: \\x1b]0;owned"]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
