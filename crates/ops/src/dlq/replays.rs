use std::io::{self, Write};

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::watch::{Watched, text, watch};
use super::{Context, report};
use crate::amount::Amount;
use crate::client::{Client, Merged, Order, Replay, ReplayDetails};
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::moment::when;
use crate::plain::plain;
use crate::{json, question};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    amount: Amount,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Show a replay with the reasons of its failures
    #[command(
        after_help = "Example:\n  orderflow dlq replays show 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Show(One),
    /// List the letters of a replay with their outcomes
    #[command(
        after_help = "Example:\n  orderflow dlq replays letters 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Letters(Letters),
    /// Watch a replay until it ends; Ctrl-C stops only the watching
    #[command(
        after_help = "Example:\n  orderflow dlq replays watch 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Watch(One),
    /// Pause a replay
    #[command(
        after_help = "Example:\n  orderflow dlq replays pause 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Pause(Act),
    /// Resume a paused replay
    #[command(
        after_help = "Example:\n  orderflow dlq replays resume 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Resume(Act),
    /// Cancel a replay; letters that are not settled stay dead
    #[command(
        after_help = "Example:\n  orderflow dlq replays cancel 01a20d3f-6ea4-7787-8145-34120562872d"
    )]
    Cancel(Act),
}

#[derive(Args)]
struct One {
    /// The replay, as `replays` lists it
    id: Uuid,
}

#[derive(Args)]
struct Letters {
    /// The replay, as `replays` lists it
    id: Uuid,
    /// Only letters with this outcome: processed, duplicate, superseded, ignored, failed or held
    #[arg(long)]
    outcome: Option<String>,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Args)]
struct Act {
    /// The replay, as `replays` lists it
    id: Uuid,
    /// The reason, recorded with your name
    #[arg(long)]
    why: Option<String>,
}

pub(super) async fn run(context: &mut Context, arguments: Arguments) -> Result<u8, Failure> {
    match arguments.command {
        None => list(context, arguments.amount.limit()).await.during("list the replays"),
        Some(Command::Show(One { id })) => show(context, id).await.during(format!("show {id}")),
        Some(Command::Letters(it)) => {
            let step = format!("list the letters of {}", it.id);
            letters(context, &it).await.during(step)
        }
        Some(Command::Watch(One { id })) => {
            observe(context, id).await.during(format!("watch {id}"))
        }
        Some(Command::Pause(it)) => act(context, it, "pause").await,
        Some(Command::Resume(it)) => act(context, it, "resume").await,
        Some(Command::Cancel(it)) => act(context, it, "cancel").await,
    }
}

async fn list(context: &mut Context, limit: usize) -> Result<u8, Error> {
    let group = context.group.as_deref();
    let clients = context.services.chosen(group)?;
    let listings = clients.iter().map(|client| client.replays(group)).collect();
    let mut replays = Merged::new(listings, limit, Order::Newest);
    let out = &mut context.out;
    if context.json {
        if json::list(out, "replays", &mut replays, limit).await? == 0 {
            context.check_group().await?;
        }
        return Ok(name_unavailable(&replays.unavailable));
    }
    let mut shown = 0;
    while shown < limit
        && !out.is_closed()
        && let Some(replay) = replays.next().await?
    {
        write_replay(out, &replay)?;
        shown += 1;
    }
    if !replays.is_at_end() {
        writeln!(out, "There are more; --all or --limit shows them.")?;
    }
    if shown == 0 && replays.unavailable.is_empty() {
        context.check_group().await?;
        writeln!(context.out, "There are no replays.")?;
    }
    Ok(name_unavailable(&replays.unavailable))
}

async fn find(
    context: &Context,
    id: Uuid,
) -> Result<(Client, crate::client::Answer<ReplayDetails>), Error> {
    let group = context.group.as_deref();
    context.services.find(group, async |client| client.replay(id).await).await
}

async fn show(context: &mut Context, id: Uuid) -> Result<u8, Error> {
    let (client, details) = find(context, id).await?;
    let out = &mut context.out;
    if context.json {
        json::print(out, &details.json)?;
        return Ok(0);
    }
    write_replay(out, &details.replay)?;
    if details.replay.is_at_rest() {
        report::write(out, &client, &details).await?;
    }
    Ok(0)
}

async fn letters(context: &mut Context, arguments: &Letters) -> Result<u8, Error> {
    let Letters { id, outcome, amount } = arguments;
    let (client, details) = find(context, *id).await?;
    let listing = client.replayed_letters(*id, outcome.as_deref());
    let mut letters = Merged::new(vec![listing], amount.limit(), Order::AsListed);
    let out = &mut context.out;
    if context.json {
        json::list(out, "letters", &mut letters, amount.limit()).await?;
        return Ok(name_unavailable(&letters.unavailable));
    }
    let mut shown = 0;
    while shown < amount.limit()
        && !out.is_closed()
        && let Some(letter) = letters.next().await?
    {
        report::write_letter(out, &letter, details.replay.rehearsal)?;
        shown += 1;
    }
    if !letters.is_at_end() {
        writeln!(out, "There are more; --all or --limit shows them.")?;
    }
    Ok(name_unavailable(&letters.unavailable))
}

async fn observe(context: &mut Context, id: Uuid) -> Result<u8, Error> {
    let (client, details) = find(context, id).await?;
    let out = &mut context.out;
    if !context.json {
        write_replay(out, &details.replay)?;
    }
    match watch(out, &client, id, context.json).await? {
        Watched::Detached => Ok(0),
        Watched::AtRest(details) if context.json => {
            json::print(out, &details.json)?;
            Ok(u8::from(!details.replay.ended_well()))
        }
        Watched::AtRest(details) => report::write(out, &client, &details).await,
    }
}

async fn act(context: &mut Context, Act { id, why }: Act, name: &str) -> Result<u8, Failure> {
    let step = format!("{name} {id}");
    let why = question::reason(&mut context.out, why).during(&*step)?;
    let (client, _) = find(context, id).await.during(&*step)?;
    let replay = client.change_replay(id, name, &why).await.during(&*step)?;
    let out = &mut context.out;
    if context.json {
        json::print(out, &replay.json).during(step)?;
    } else {
        write_replay(out, &replay).during(step)?;
    }
    Ok(0)
}

fn write_replay(out: &mut impl Write, replay: &Replay) -> io::Result<()> {
    let Replay { id, group, rehearsal, status, .. } = replay;
    let what = if *rehearsal { "rehearsal" } else { "replay" };
    writeln!(out, "{id}   {}   {what} {}", plain(group), plain(status))?;
    let pace = pace(replay);
    let by = plain(&replay.by);
    writeln!(out, "   requested    {} by {by}{pace}", when(&replay.requested_at))?;
    for (name, at) in [("started", &replay.started_at), ("ended", &replay.ended_at)] {
        if let Some(at) = at {
            writeln!(out, "   {name:<12} {}", when(at))?;
        }
    }
    for (name, value) in [("why", &replay.why), ("note", &replay.note)] {
        if let Some(value) = value {
            writeln!(out, "   {name:<12} {}", plain(value))?;
        }
    }
    writeln!(out, "   letters      {}\n", text(replay))
}

/// Returns the rate and the options of a replay, after commas.
fn pace(replay: &Replay) -> String {
    let rate = replay.rate.map(|rate| format!(", {rate} a second"));
    let ramp = replay.ramp.then(|| ", with a ramp".to_owned());
    let stop = replay.stop_after.map(|failures| format!(", pausing after {failures} failures"));
    let force = replay.force.then(|| ", by force".to_owned());
    [rate, ramp, stop, force].into_iter().flatten().collect()
}
