//! `discard` and `restore`.

use std::io::Write;

use clap::Args;

use super::Context;
use super::arguments::Selected;
use super::chosen::{Chosen, Eligible};
use super::letter_change::LetterChange;
use crate::error::{Error, Failure, StepContext};
use crate::plain::{count, plain};
use crate::{json, question};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selected: Selected,
    /// All letters of the group that can be changed
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
    change: &LetterChange,
) -> Result<u8, Failure> {
    let step = format!("{} dead letters", change.act);
    let Arguments { selected, all, why, yes } = arguments;
    check(context, &selected, all, yes).during(&*step)?;
    let eligible = Eligible { statuses: change.from, expired: true, most: None };
    let chosen = Chosen::find(context, &selected, &eligible).await.during(&*step)?;
    if !context.json {
        chosen.write(&mut context.out).during(&*step)?;
    }
    if chosen.is_empty() {
        if context.json {
            json::print(&mut context.out, &serde_json::json!({ "letters": 0 })).during(step)?;
        }
        return Ok(0);
    }
    let question = format!("{} {}?", change.question, chosen.title());
    if !question::agreed(&mut context.out, &question, yes).during(&*step)? {
        writeln!(context.out, "Nothing was {}.", change.done).during(step)?;
        return Ok(1);
    }
    let why = question::reason(&mut context.out, why).during(&*step)?;
    let Chosen { client, group, selection, .. } = chosen;
    let changed =
        client.change_letters(change.act, &group, &selection, &why).await.during(&*step)?;
    let out = &mut context.out;
    if context.json {
        json::print(out, &changed.json).during(step)?;
    } else {
        let letters = count(changed.letters, "letter", "letters");
        writeln!(out, "{letters} of {} {}.", plain(&group), change.done).during(step)?;
    }
    Ok(0)
}

fn check(context: &Context, selected: &Selected, all: bool, yes: bool) -> Result<(), Error> {
    let is_any = selected.ids.is_empty() && selected.filter.is_empty();
    if is_any && !all {
        return Err(Error::Refused("give --id, a filter such as --fingerprint, or --all".into()));
    }
    if !is_any && all {
        return Err(Error::Refused(
            "--all selects all letters of the group; leave out --id and the filter".into(),
        ));
    }
    if context.json && !yes {
        return Err(Error::Refused("--json does not ask; give --yes".into()));
    }
    Ok(())
}
