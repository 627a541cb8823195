use std::io::Write;

use clap::Args;
use serde_json::json;

use super::arguments::Selected;
use super::chosen::{Chosen, Eligible};
use super::watch::{Watched, watch};
use super::{Context, report};
use crate::client::{Answer, NewReplay, Replay, Status};
use crate::error::{Error, Failure, StepContext, complain};
use crate::json as output;
use crate::plain::{count, plain};
use crate::question;

/// The letters to replay, and how.
#[derive(Args)]
pub(super) struct Request {
    #[command(flatten)]
    selected: Selected,
    /// Maximum number of letters, oldest first
    #[arg(long)]
    max: Option<usize>,
    /// Maximum number of letters a second
    #[arg(long)]
    rate: Option<f64>,
    /// Begin with 1 letter, then 10, 100, ..; each step waits for the outcomes of the previous one
    #[arg(long)]
    ramp: bool,
    /// Pause after this number of failures
    #[arg(long, value_name = "FAILURES")]
    stop_after: Option<u32>,
    /// Also replay letters that are parked, or older than the inbox's retention
    #[arg(long)]
    force: bool,
    /// The reason, recorded with your name
    #[arg(long)]
    why: Option<String>,
}

#[derive(Args)]
pub(super) struct RehearseArguments {
    #[command(flatten)]
    request: Request,
}

#[derive(Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    request: Request,
    /// Show the letters without replaying them; `rehearse` shows the outcomes too
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(super) async fn rehearse(
    context: &mut Context,
    RehearseArguments { request }: RehearseArguments,
) -> Result<u8, Failure> {
    let Some(chosen) = choose(context, &request).await.during("choose the dead letters")? else {
        return Ok(0);
    };
    run(context, chosen, request, true).await.during("rehearse the replay")
}

pub(super) async fn replay(
    context: &mut Context,
    ReplayArguments { mut request, dry_run, yes }: ReplayArguments,
) -> Result<u8, Failure> {
    if context.json && !yes && !dry_run {
        let error = Error::Refused("--json does not ask; give --yes".into());
        return Err(error).during("replay");
    }
    let Some(chosen) = choose(context, &request).await.during("choose the dead letters")? else {
        return Ok(0);
    };
    if dry_run {
        return Ok(0);
    }
    let question = format!("Replay {}?", chosen.title());
    if !question::agreed(&mut context.out, &question, yes).during("ask whether to replay")? {
        writeln!(context.out, "Nothing was replayed.").during("replay")?;
        return Ok(1);
    }
    let why = question::reason(&mut context.out, request.why.take()).during("replay")?;
    request.why = Some(why);
    run(context, chosen, request, false).await.during("replay")
}

/// Finds the letters and prints them. Returns `None` if there are none.
async fn choose(context: &mut Context, request: &Request) -> Result<Option<Chosen>, Error> {
    let statuses: &[_] =
        if request.force { &[Status::Dead, Status::Parked] } else { &[Status::Dead] };
    let eligible = Eligible { statuses, expired: request.force, most: request.max };
    let chosen = Chosen::find(context, &request.selected, &eligible).await?;
    if !context.json {
        chosen.write(&mut context.out)?;
    } else if chosen.is_empty() {
        output::print(&mut context.out, &json!({ "group": chosen.group, "selected": 0 }))?;
    }
    Ok(Some(chosen).filter(|chosen| !chosen.is_empty()))
}

/// Starts a replay or a rehearsal, and watches it.
async fn run(
    context: &mut Context,
    chosen: Chosen,
    request: Request,
    rehearse: bool,
) -> Result<u8, Error> {
    let Chosen { client, group, selection, .. } = chosen;
    let Request { rate, ramp, stop_after, force, why, .. } = request;
    let new = NewReplay { group, selection, rehearse, rate, ramp, stop_after, force, why };
    let started = client.start_replay(&new).await.inspect_err(|error| {
        if matches!(error, Error::Unreachable { .. }) {
            complain(&format!(
                "It is unknown whether it was started; see `orderflow dlq replays --group {}` before you try again.",
                plain(&new.group)
            ));
        }
    })?;
    if !context.json {
        started_line(context, &started)?;
    }
    let watched = watch(&mut context.out, &client, started.id, context.json).await?;
    match watched {
        Watched::AtRest(details) if context.json => {
            output::print(&mut context.out, &details.json)?;
            Ok(u8::from(!details.replay.ended_well()))
        }
        Watched::AtRest(details) => report::write(&mut context.out, &client, &details).await,
        Watched::Detached => {
            if context.json {
                output::print(&mut context.out, &started.json)?;
            }
            Ok(0)
        }
    }
}

fn started_line(context: &mut Context, started: &Answer<Replay>) -> Result<(), Error> {
    let what = if started.rehearsal { "Rehearsal" } else { "Replay" };
    let letters = count(started.selected, "letter", "letters");
    let by = plain(&started.by);
    writeln!(context.out, "{what} {} of {letters}, requested by {by}", started.id)?;
    Ok(())
}
