//! `acknowledge`, `ignore` and `reopen`: set the status of a group of letters.

use std::io::Write;

use clap::Args;

use super::Context;
use super::groups::write_group;
use crate::client::{Answer, LetterGroup};
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::json::Document;

#[derive(Args)]
pub(super) struct Arguments {
    /// The fingerprint that `dlq groups` shows
    fingerprint: String,
    /// A note for other operators, recorded with your name
    #[arg(long)]
    note: Option<String>,
}

/// Sets the status of a group. `status` is the name in the API.
pub(super) async fn run(
    context: &mut Context,
    arguments: &Arguments,
    status: &str,
) -> Result<u8, Failure> {
    let step = format!("set the group {} to {status}", arguments.fingerprint);
    set(context, arguments, status).await.during(step)
}

/// Sets the status in each service, since several may have letters of one fingerprint.
async fn set(context: &mut Context, arguments: &Arguments, status: &str) -> Result<u8, Error> {
    let Arguments { fingerprint, note } = arguments;
    let (mut groups, mut unavailable, mut unknown) = (Vec::new(), Vec::new(), None);
    for client in context.services.chosen(context.group.as_deref())? {
        match client.set_letter_group(fingerprint, status, note.as_deref()).await {
            Ok(group) => groups.push(group),
            Err(error) if error.is_not_found() => unknown = Some(error),
            Err(error) if error.is_unavailable() => unavailable.push((client.service, error)),
            Err(error) => return Err(error),
        }
    }
    if groups.is_empty() {
        // A service that did not answer may know the group.
        let failed = unavailable.pop().map(|(_, error)| error).or(unknown);
        return Err(failed.unwrap_or_else(|| Error::Refused("there is no service to ask".into())));
    }
    write(context, &groups, unavailable.is_empty())?;
    Ok(name_unavailable(&unavailable))
}

fn write(
    context: &mut Context,
    groups: &[Answer<LetterGroup>],
    all_answered: bool,
) -> Result<(), Error> {
    let out = &mut context.out;
    if !context.json {
        return Ok(groups.iter().try_for_each(|group| write_group(out, group))?);
    }
    let mut document = Document::begin(out, "groups")?;
    for group in groups {
        document.item(out, &group.json)?;
    }
    document.end(out, None, all_answered)?;
    out.flush()?;
    Ok(())
}
