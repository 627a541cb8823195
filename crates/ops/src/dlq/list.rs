use std::io::{self, Write};

use clap::Args;

use super::{Context, topic};
use crate::amount::Amount;
use crate::client::{Filter, Merged, Status, Summary};
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::json;
use crate::moment::when;
use crate::plain::plain;

/// Maximum number of hidden letters to count. Each thousand takes a request.
const COUNTED: u64 = 10_000;

/// The statuses of open letters.
pub(super) const OPEN: [Status; 3] = [Status::Dead, Status::Replaying, Status::Parked];

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    amount: Amount,
    #[command(flatten)]
    topic: topic::TopicArguments,
}

pub(super) async fn run(context: &mut Context, arguments: &Arguments) -> Result<u8, Failure> {
    let Arguments { filter, amount, topic } = arguments;
    if topic.is_given() {
        return topic.list(context, filter, amount.limit()).during("list the dead letters");
    }
    list(context, filter, amount.limit()).await.during("list the dead letters")
}

async fn list(context: &mut Context, filter: &Filter, limit: usize) -> Result<u8, Error> {
    let statuses = filter.status.map_or(OPEN.to_vec(), |status| vec![status]);
    let mut letters = context.letters(filter, &statuses, limit)?;
    if context.json {
        let shown = json::list(&mut context.out, "dead_letters", &mut letters, limit).await?;
        if shown == 0 {
            context.check_group().await?;
        }
    } else {
        table(context, filter, &mut letters, limit).await?;
    }
    Ok(name_unavailable(&letters.unavailable))
}

async fn table(
    context: &mut Context,
    filter: &Filter,
    letters: &mut Merged<Summary>,
    limit: usize,
) -> Result<(), Error> {
    let out = &mut context.out;
    let mut shown = 0;
    while shown < limit && !out.is_closed() {
        let Some(letter) = letters.next().await? else { break };
        write_letter(out, &letter)?;
        shown += 1;
    }
    if out.is_closed() {
        return Ok(());
    }
    let place = context.group.as_deref().map(|group| format!(" in {}", plain(group)));
    let place = place.unwrap_or_default();
    let status = filter.status.map_or("open", Status::as_str);
    if shown == 0 {
        context.check_group().await?;
        let out = &mut context.out;
        // If a service did not answer, the list may be incomplete.
        if letters.unavailable.is_empty() {
            let matching = Filter { status: None, ..filter.clone() };
            let matching = if matching.is_empty() { "" } else { " that match" };
            writeln!(out, "No dead letters{place}{matching} are {status}.")?;
        }
        return Ok(());
    }
    match letters.count(COUNTED).await? {
        0 => writeln!(out, "{shown} {status}{place}.")?,
        more => {
            let more_than = if more == COUNTED { "more than " } else { "" };
            let all = shown as u64 + more;
            writeln!(
                out,
                "{shown} of {more_than}{all} {status}{place}; {more_than}{more} more with --all."
            )?;
        }
    }
    Ok(())
}

/// Writes a letter. The first line contains its id with group and status.
pub(super) fn write_letter(out: &mut impl Write, letter: &Summary) -> io::Result<()> {
    let Summary { id, group, status, died_at, .. } = letter;
    let mut flags = String::new();
    for (flag, is_set) in [("edited", letter.is_edited), ("expired", letter.is_expired)] {
        if is_set {
            flags = format!("{flags}, {flag}");
        }
    }
    writeln!(out, "{id}   {}   {}{flags}", plain(group), plain(status))?;
    writeln!(out, "   died         {}{}", when(died_at), failed_replays(letter.replays))?;
    let event = [&letter.event_type, &letter.event_id].map(|it| it.as_deref().unwrap_or("-"));
    writeln!(out, "   event        {}", plain(&event.join(" ")))?;
    for (name, value) in [
        ("subject", &letter.subject),
        ("tenant", &letter.tenant),
        ("correlation", &letter.correlation_id),
    ] {
        if let Some(value) = value {
            writeln!(out, "   {name:<12} {}", plain(value))?;
        }
    }
    writeln!(out, "   reason       {}\n", plain(&letter.reason))
}

/// Returns the number of failed replays of a letter, after a comma.
pub(super) fn failed_replays(replays: u64) -> String {
    match replays {
        0 => String::new(),
        1 => ", replayed once without success".into(),
        times => format!(", replayed {times} times without success"),
    }
}
