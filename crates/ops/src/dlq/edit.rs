use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Context;
use crate::client::Bytes;
use crate::error::{Error, Failure, StepContext};
use crate::plain::{plain, plain_bytes};
use crate::{json, question};

#[derive(Args)]
pub(super) struct Arguments {
    /// The letter, as `list` shows it
    id: Uuid,
    /// The new payload, JSON
    #[arg(long, value_name = "JSON", required_unless_present = "file")]
    value: Option<String>,
    /// A file with the new payload; `-` is standard input
    #[arg(long, conflicts_with = "value")]
    file: Option<PathBuf>,
    /// The reason, recorded with your name and the old payload
    #[arg(long)]
    why: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &mut Context, arguments: Arguments) -> Result<u8, Failure> {
    let step = format!("edit {}", arguments.id);
    edit(context, arguments).await.during(step)
}

async fn edit(context: &mut Context, arguments: Arguments) -> Result<u8, Error> {
    let Arguments { id, value, file, why, yes } = arguments;
    if context.json && !yes {
        return Err(Error::Refused("--json does not ask; give --yes".into()));
    }
    let value = payload(value, file)?;
    let group = context.group.as_deref();
    let found = context.services.find(group, async |client| client.letter(id).await).await;
    let (client, letter) = found?;
    let out = &mut context.out;
    if !context.json {
        let before = letter.value.as_ref().map(Bytes::as_slice);
        writeln!(out, "payload      {}", before.map_or_else(|| "none".into(), plain_bytes))?;
        writeln!(out, "becomes      {}", plain(value.get()))?;
    }
    if !question::agreed(out, &format!("Edit {id} of {}?", plain(&letter.summary.group)), yes)? {
        writeln!(out, "Nothing was changed.")?;
        return Ok(1);
    }
    let why = question::reason(out, why)?;
    let edited = client.edit(id, &value, &why).await?;
    if context.json {
        json::print(out, &edited.json)?;
    } else {
        writeln!(out, "Edited. To try it: orderflow dlq rehearse --id {id}")?;
    }
    Ok(0)
}

/// Returns the new payload as raw JSON, so that no number is rounded.
fn payload(value: Option<String>, file: Option<PathBuf>) -> Result<Box<RawValue>, Error> {
    let text = match (value, file) {
        (Some(value), _) => value,
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        (None, file) => {
            let file = file.unwrap_or_default();
            std::fs::read_to_string(&file)
                .map_err(|error| Error::Refused(format!("--file {}: {error}", file.display())))?
        }
    };
    serde_json::from_str(text.trim())
        .map_err(|error| Error::Refused(format!("the new payload is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_and_stays_as_it_was_written() {
        let read = |text: &str| payload(Some(text.into()), None);
        assert_eq!(read(" {\"n\": 1.10}\n").unwrap().get(), "{\"n\": 1.10}");
        let error = read("{\"n\": }").unwrap_err().to_string();
        assert!(error.contains("not JSON") && error.contains("column"), "{error}");
        let error = payload(None, Some("/nowhere".into())).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
