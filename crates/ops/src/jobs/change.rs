//! `retry` and `discard`.

use std::io::Write;

use clap::Args;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Context;
use super::chosen::{Chosen, Part};
use super::job_change::JobChange;
use crate::client::JobFilter;
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::plain::{count, plain};
use crate::{json as output, question};

#[derive(Args)]
pub(super) struct Arguments {
    /// Ids of the jobs
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: JobFilter,
    /// All jobs that can be changed
    #[arg(long)]
    all: bool,
    /// The reason, recorded with your name
    #[arg(long)]
    why: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    context: &mut Context,
    arguments: Arguments,
    change: &JobChange,
) -> Result<u8, Failure> {
    let step = format!("{} jobs", change.act);
    let Arguments { ids, filter, all, why, yes } = arguments;
    check(context, &ids, &filter, all, yes).during(&*step)?;
    check_state(&filter, change).during(&*step)?;
    let clients = context.clients().during(&*step)?;
    let chosen = if ids.is_empty() {
        Chosen::by_filter(clients, &filter, change.from).await.during(&*step)?
    } else {
        Chosen::by_ids(clients, &ids).await.during(&*step)?
    };
    let unavailable = name_unavailable(&chosen.unavailable);
    if !context.json {
        chosen.write(&mut context.out).during(&*step)?;
    }
    if chosen.is_empty() {
        if context.json {
            let nothing = json!({ "jobs": 0, "skipped": 0, "services": {} });
            output::print(&mut context.out, &nothing).during(step)?;
        }
        return Ok(unavailable);
    }
    let question = format!("{} {}?", change.question, chosen.title());
    if !question::agreed(&mut context.out, &question, yes).during(&*step)? {
        writeln!(context.out, "Nothing was changed.").during(step)?;
        return Ok(1);
    }
    let why = question::reason(&mut context.out, why).during(&*step)?;
    send(context, &chosen.parts, change, &why).await.map(|status| status.max(unavailable))
}

fn check(
    context: &Context,
    ids: &[Uuid],
    filter: &JobFilter,
    all: bool,
    yes: bool,
) -> Result<(), Error> {
    let why = match (ids.is_empty(), filter.is_empty(), all) {
        (true, true, false) => "give ids, a filter such as --kind, or --all",
        (false, false, _) => "ids select single jobs; leave out the filter",
        (false, _, true) | (_, false, true) => {
            "--all selects all jobs; leave out ids and the filter"
        }
        _ if context.json && !yes => "--json does not ask; give --yes",
        _ => return Ok(()),
    };
    Err(Error::Refused(why.into()))
}

fn check_state(filter: &JobFilter, change: &JobChange) -> Result<(), Error> {
    let Some(state) = filter.state.filter(|state| !change.from.contains(state)) else {
        return Ok(());
    };
    let possible: Vec<_> = change.from.iter().map(|it| it.as_str()).collect();
    Err(Error::Refused(format!(
        "--state {}: {} applies to jobs that are {}",
        state.as_str(),
        change.act,
        possible.join(" or ")
    )))
}

/// Sends the change to each service. A service that refuses or fails is named, and the others are
/// called all the same.
async fn send(
    context: &mut Context,
    parts: &[Part],
    change: &JobChange,
    why: &str,
) -> Result<u8, Failure> {
    let (mut jobs, mut skipped, mut status) = (0, 0, 0);
    let mut services = Map::new();
    for Part { client, selection } in parts {
        let step = format!("{} jobs of {}", change.act, client.service);
        let changed = match client.change_jobs(change.act, selection, why).await {
            Ok(changed) => changed,
            Err(error) => {
                let failure = Failure::new(step, error);
                if parts.len() == 1 {
                    return Err(failure);
                }
                failure.print();
                status = status.max(failure.exit_status());
                continue;
            }
        };
        jobs += changed.jobs;
        skipped += changed.skipped;
        let counts = json!({ "jobs": changed.jobs, "skipped": changed.skipped });
        services.insert(client.service.clone(), counts);
        if !context.json {
            let (changed, left) = (count(changed.jobs, "job", "jobs"), changed.skipped);
            let left =
                if left == 0 { String::new() } else { format!("; {left} {}", change.skipped) };
            writeln!(context.out, "{changed} of {} {}{left}.", plain(&client.service), change.done)
                .during(step)?;
        }
    }
    if context.json {
        let all = json!({ "jobs": jobs, "skipped": skipped, "services": Value::Object(services) });
        output::print(&mut context.out, &all).during("print what was done")?;
    }
    Ok(status)
}
