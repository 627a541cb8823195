//! `pause`, `resume` and `drop`.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::Context;
use crate::error::{Error, Failure, StepContext};
use crate::plain::{count, plain};
use crate::{json, question};

#[derive(Args)]
pub(super) struct Arguments {
    /// The consumer group
    #[arg(long)]
    group: String,
    /// The reason, which is shown to all operators
    #[arg(long)]
    why: Option<String>,
}

pub(super) async fn run(
    context: &mut Context,
    arguments: Arguments,
    act: &str,
) -> Result<u8, Failure> {
    let step = format!("{act} {}", arguments.group);
    change(context, arguments, act).await.during(step)?;
    Ok(0)
}

async fn change(context: &mut Context, arguments: Arguments, act: &str) -> Result<(), Error> {
    let Arguments { group, why } = arguments;
    let client = context.services.of_group(&group)?;
    let why = question::reason(&mut context.out, why)?;
    let answer = client.change_subscription(&group, act, &why).await?;
    let out = &mut context.out;
    if context.json {
        return json::print(out, &answer);
    }
    writeln!(out, "{}", done(act, &plain(&group), &answer))?;
    Ok(())
}

fn done(act: &str, group: &str, answer: &Value) -> String {
    match act {
        "pause" => format!("{group} is paused; its instances stop within a second"),
        "resume" => format!("{group} is resumed; its instances continue within a second"),
        _ => {
            let rows = count(answer["rows"].as_u64().unwrap_or_default(), "row", "rows");
            format!("{rows} of {group} dropped")
        }
    }
}
