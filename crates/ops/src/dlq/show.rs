use std::io::{self, Write};

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::kcat::Produced;
use super::list::failed_replays;
use super::{Context, curl, topic};
use crate::client::{Attempt, Bytes, Letter};
use crate::error::{Error, Failure, StepContext};
use crate::json;
use crate::moment::when;
use crate::plain::{plain, plain_bytes};

#[derive(Args)]
pub(super) struct Arguments {
    /// Id of the letter, from `list`
    id: String,
    /// Print a command that sends the event: curl to the direct feed, kcat to the original topic
    #[arg(long = "as", value_name = "COMMAND")]
    as_command: Option<CommandFormat>,
    #[command(flatten)]
    topic: topic::TopicArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum CommandFormat {
    Curl,
    Kcat,
}

pub(super) async fn run(context: &mut Context, arguments: &Arguments) -> Result<u8, Failure> {
    show(context, arguments).await.during(format!("show {}", arguments.id))?;
    Ok(0)
}

async fn show(context: &mut Context, arguments: &Arguments) -> Result<(), Error> {
    let Arguments { id, as_command, topic } = arguments;
    if context.json && as_command.is_some() {
        return Err(Error::Refused("--as prints a command, not JSON; leave out --json".into()));
    }
    if topic.is_given() {
        let letter = topic.find(id)?;
        let out = &mut context.out;
        match as_command {
            Some(CommandFormat::Kcat) => {
                writeln!(out, "{}", Produced::of_foreign(&letter)?.command()?)?;
            }
            Some(CommandFormat::Curl) => {
                let why = "only these services have a direct feed; with --topic use --as kcat";
                return Err(Error::Refused(why.into()));
            }
            None if context.json => json::print(out, &topic::full_letter(&letter))?,
            None => topic::write_whole(out, &letter)?,
        }
        return Ok(());
    }
    let id = letter_id(id)?;
    let group = context.group.as_deref();
    let (client, letter) =
        context.services.find(group, async |client| client.letter(id).await).await?;
    let out = &mut context.out;
    match as_command {
        Some(CommandFormat::Kcat) => writeln!(out, "{}", Produced::of_letter(&letter).command()?)?,
        Some(CommandFormat::Curl) => writeln!(out, "{}", curl::command(&letter, &client.service)?)?,
        None if context.json => json::print(out, &letter.json)?,
        None => write_whole(out, &letter)?,
    }
    Ok(())
}

fn letter_id(id: &str) -> Result<Uuid, Error> {
    id.parse().map_err(|_| {
        Error::Refused(format!("{id} is no id of a dead letter; `orderflow dlq list` shows ids"))
    })
}

/// Writes everything about a letter.
fn write_whole(out: &mut impl Write, letter: &Letter) -> io::Result<()> {
    let Letter { summary, key, value, causes, attempts, edit, traceparent, .. } = letter;
    write_facts(out, letter)?;
    for (at, line) in causes.lines().enumerate() {
        writeln!(out, "{:<12} {}", if at == 0 { "causes" } else { "" }, plain(line))?;
    }
    for attempt in attempts {
        let Attempt { at, exception, message, replay, .. } = attempt;
        let replay = replay.map(|id| format!(" in replay {id}")).unwrap_or_default();
        writeln!(out, "attempt      {}{replay}", when(at))?;
        writeln!(out, "             {}: {}", plain(exception), plain(message))?;
    }
    if let Some(traceparent) = traceparent {
        writeln!(out, "trace        {}", plain(traceparent))?;
    }
    writeln!(out, "key          {}", bytes(key.as_ref()))?;
    for (name, value) in letter.header_bytes() {
        let value = value.map_or_else(|| "none".into(), plain_bytes);
        writeln!(out, "header       {}: {value}", plain(name))?;
    }
    writeln!(out, "payload      {}", bytes(value.as_ref()))?;
    if let Some(edit) = edit {
        writeln!(
            out,
            "edited       {} by {}: {}",
            when(&edit.at),
            plain(&edit.by),
            plain(&edit.why)
        )?;
        writeln!(out, "before       {}", bytes(edit.before.as_ref()))?;
    } else if summary.is_edited {
        writeln!(out, "edited       yes")?;
    }
    Ok(())
}

fn write_facts(out: &mut impl Write, letter: &Letter) -> io::Result<()> {
    let it = &letter.summary;
    let outcome = it.outcome.as_deref().map(|it| format!(", last outcome {}", plain(it)));
    writeln!(out, "{}   {}   {}\n", it.id, plain(&it.group), plain(&it.status))?;
    writeln!(out, "died         {}{}", when(&it.died_at), failed_replays(it.replays))?;
    if let Some(closed_at) = &it.closed_at {
        writeln!(out, "closed       {}{}", when(closed_at), outcome.unwrap_or_default())?;
    } else if let Some(outcome) = outcome {
        writeln!(out, "open        {}", outcome.trim_start_matches(','))?;
    }
    if it.is_expired {
        writeln!(
            out,
            "expired      its event is older than the inbox's retention; only --force replays it"
        )?;
    }
    for (name, value) in [
        ("event", &it.event_id),
        ("type", &it.event_type),
        ("source", &it.source),
        ("subject", &it.subject),
        ("tenant", &it.tenant),
        ("correlation", &it.correlation_id),
    ] {
        if let Some(value) = value {
            writeln!(out, "{name:<12} {}", plain(value))?;
        }
    }
    writeln!(out, "record       {}/{}/{}", plain(&it.topic), it.partition, it.offset)?;
    writeln!(out, "fingerprint  {}", plain(&it.fingerprint))?;
    writeln!(out, "exception    {}", plain(&it.exception))?;
    writeln!(out, "reason       {}", plain(&it.reason))
}

fn bytes(value: Option<&Bytes>) -> String {
    value.map_or_else(|| "none".into(), |value| plain_bytes(value.as_slice()))
}

#[cfg(test)]
pub(super) fn letter() -> Letter {
    let letter = serde_json::json!({
        "id": "01a20a9a-7779-774a-8232-46ea7c2ec2ec", "group": "billing", "event_id": "e1",
        "event_type": "order.completed", "source": "/order", "subject": "s1", "tenant": "acme",
        "correlation_id": "c1", "topic": "order.completed", "partition": 5, "offset": 3,
        "reason": "\u{1b}[2Jno such customer", "exception": "consumer::Permanent", "fingerprint": "f1",
        "status": "parked", "outcome": "failed", "replays": 2, "died_at": "2026-11-25T10:00:00Z", "closed_at": null,
        "is_expired": true, "is_edited": true, "key": { "text": "k" }, "value": { "text": "{\"a\":\"\u{7}\"}" },
        "headers": [
            { "name": "ce_id", "value": { "text": "grüße \"1\" 100%" } },
            { "name": "ce_type", "value": { "text": "order.completed" } },
            { "name": "content-type", "value": { "text": "application/json" } },
            { "name": "traceparent", "value": { "text": "00-1-2-01" } },
            { "name": "odd", "value": null },
        ],
        "causes": "first\nsecond\u{1b}",
        "attempts": [{ "at": "t", "exception": "e", "message": "m\u{1b}", "causes": "", "replay": null }],
        "edit": { "by": "ada", "why": "typo", "at": "t2", "before": { "base64": "/w==" } }, "traceparent": null,
    });
    serde_json::from_value(letter).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_shown_whole_and_can_not_control_the_terminal() {
        let mut text = Vec::new();
        write_whole(&mut text, &letter()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        for part in [
            "01a20a9a-7779-774a-8232-46ea7c2ec2ec   billing   parked\n",
            "died         2026-11-25 10:00:00 UTC, replayed 2 times without success\n",
            "open         last outcome failed\n",
            "record       order.completed/5/3\n",
            "reason       \\x1b[2Jno such customer\n",
            "causes       first\n             second\\x1b\n",
            "payload      {\"a\":\"\\x07\"}\n",
            "header       odd: none\n",
            "edited       t2 by ada: typo\nbefore       \\xff\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
