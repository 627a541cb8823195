//! `--topic`: dead letters of other systems, read from Kafka.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use kafka::{ClientOptions, Settings};
use serde_json::{Value, json};

use super::Context;
use crate::client::{Bytes, Filter};
use crate::error::Error;
use crate::foreign::{self, ForeignLetter};
use crate::json as output;
use crate::lag::client_settings;
use crate::moment::when;
use crate::plain::{plain, plain_bytes};

#[derive(Args)]
pub(super) struct TopicArguments {
    /// Read dead letters of Spring, Kafka Streams or Kafka Connect from this Kafka topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Addresses of Kafka's brokers, for --topic
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092")]
    brokers: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl TopicArguments {
    pub(super) fn is_given(&self) -> bool {
        self.topic.is_some()
    }

    fn settings(&self) -> Result<(Settings, &str), Error> {
        let settings = client_settings(&self.client, Settings::new(&self.brokers, ""))?;
        Ok((settings, self.topic.as_deref().unwrap_or_default()))
    }

    /// Lists the newest letters of the topic.
    pub(super) fn list(
        &self,
        context: &mut Context,
        filter: &Filter,
        limit: usize,
    ) -> Result<u8, Error> {
        if !filter.is_empty() || context.group.is_some() {
            let why = "a topic can't be filtered: with --topic leave out --group and the filter";
            return Err(Error::Refused(why.into()));
        }
        let (settings, topic) = self.settings()?;
        // One more than shown, to find out whether there are more.
        let mut letters = foreign::newest(&settings, topic, limit.saturating_add(1))?;
        let is_complete = letters.len() <= limit;
        letters.truncate(limit);
        let out = &mut context.out;
        if context.json {
            let letters: Vec<_> = letters.iter().map(summary).collect();
            let document =
                json!({ "dead_letters": letters, "next_cursor": null, "is_complete": is_complete });
            output::print(out, &document)?;
            return Ok(0);
        }
        for letter in &letters {
            write_letter(out, letter)?;
        }
        let shown = letters.len();
        if is_complete {
            writeln!(out, "{shown} in {}.", plain(topic))?;
        } else {
            writeln!(out, "The newest {shown} in {}; --limit and --all show more.", plain(topic))?;
        }
        Ok(0)
    }

    /// Returns the letter with an id of the form partition/offset.
    pub(super) fn find(&self, id: &str) -> Result<ForeignLetter, Error> {
        let place = id.split_once('/').and_then(|(partition, offset)| {
            Some((partition.parse().ok()?, offset.parse().ok().filter(|offset| *offset >= 0)?))
        });
        let Some((partition, offset)) = place else {
            let why =
                format!("{id} is not of the form partition/offset, as `dlq list --topic` shows it");
            return Err(Error::Refused(why));
        };
        let (settings, topic) = self.settings()?;
        let letter = foreign::at(&settings, topic, partition, offset)?;
        letter.ok_or_else(|| Error::Refused(format!("there is no record {id} in {topic}")))
    }
}

fn died_at(letter: &ForeignLetter) -> Option<String> {
    let millis = letter.record.timestamp.and_then(|millis| u64::try_from(millis).ok())?;
    // The latest time that can be formatted is in the year 9999.
    let at = UNIX_EPOCH + Duration::from_millis(millis.min(253_402_300_799_000));
    Some(humantime::format_rfc3339_millis(at).to_string())
}

fn write_letter(out: &mut impl Write, letter: &ForeignLetter) -> io::Result<()> {
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), plain);
    let group = letter.origin.group.as_deref().map(|it| format!("   {}", plain(it)));
    writeln!(out, "{}{}", letter.id(), group.unwrap_or_default())?;
    writeln!(
        out,
        "   died         {}",
        died_at(letter).map_or_else(|| "-".into(), |at| when(&at))
    )?;
    writeln!(out, "   from         {}", place(letter))?;
    writeln!(out, "   exception    {}", or_none(&letter.death.exception))?;
    writeln!(out, "   reason       {}\n", or_none(&letter.death.message))
}

/// Returns the original place of the record.
fn place(letter: &ForeignLetter) -> String {
    let number = |it: Option<i64>| it.map_or_else(|| "-".into(), |it| it.to_string());
    let topic = letter.origin.topic.as_deref().map_or_else(|| "-".into(), plain);
    format!("{topic}/{}/{}", number(letter.origin.partition), number(letter.origin.offset))
}

/// Writes everything about a letter.
pub(super) fn write_whole(out: &mut impl Write, letter: &ForeignLetter) -> io::Result<()> {
    let ForeignLetter { framework, death, record, .. } = letter;
    let by = framework.map_or("an unknown framework", |name| name);
    writeln!(out, "{} in {}, written by {by}\n", letter.id(), plain(&record.topic))?;
    write_letter(out, letter)?;
    for (name, value) in &death.details {
        writeln!(out, "{name:<11} {}", plain(value))?;
    }
    for (at, line) in death.stacktrace.iter().flat_map(|it| it.lines()).enumerate() {
        // The tab before `at ..` is an indentation. Other control characters are escaped.
        let line =
            line.strip_prefix('\t').map_or_else(|| plain(line), |it| format!("  {}", plain(it)));
        writeln!(out, "{:<11} {line}", if at == 0 { "stack" } else { "" })?;
    }
    let bytes = |it: Option<&[u8]>| it.map_or_else(|| "none".into(), plain_bytes);
    writeln!(out, "key         {}", bytes(record.key.as_deref()))?;
    for (name, value) in letter.own_headers() {
        writeln!(out, "header      {}: {}", plain(name), bytes(value))?;
    }
    writeln!(out, "value       {}", bytes(record.value.as_deref()))
}

fn summary(letter: &ForeignLetter) -> Value {
    let ForeignLetter { framework, origin, death, record } = letter;
    let text = |name| record.text_header(name);
    json!({
        "id": letter.id(), "framework": framework, "group": origin.group, "topic": origin.topic,
        "partition": origin.partition, "offset": origin.offset, "event_id": text("ce_id"),
        "event_type": text("ce_type"), "source": text("ce_source"), "subject": text("ce_subject"),
        "correlation_id": text("ce_correlationid"), "exception": death.exception, "reason": death.message,
        "died_at": died_at(letter),
    })
}

/// Returns the whole letter, with the admin API's names where they exist.
pub(super) fn full_letter(letter: &ForeignLetter) -> Value {
    let bytes = |it: Option<&[u8]>| it.map(|it| Bytes::from(it.to_vec()));
    let headers = letter.own_headers();
    let headers: Vec<_> =
        headers.map(|(name, value)| json!({ "name": name, "value": bytes(value) })).collect();
    let mut full_letter = summary(letter);
    full_letter["key"] = json!(bytes(letter.record.key.as_deref()));
    full_letter["value"] = json!(bytes(letter.record.value.as_deref()));
    full_letter["headers"] = headers.into();
    full_letter["causes"] = json!(letter.death.stacktrace);
    for (name, value) in &letter.death.details {
        full_letter[format!("framework_{name}")] = json!(value);
    }
    full_letter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::dead_record;

    fn letter() -> ForeignLetter {
        ForeignLetter::read(dead_record(&[
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-exception-message", b"\x1b]0;owned\x07"),
            ("kafka_dlt-exception-stacktrace", b"java.lang.X\n\tat a\x1b[2J"),
            ("trace", &[0xff]),
        ]))
    }

    #[test]
    fn a_letter_can_not_control_the_terminal() {
        let mut text = Vec::new();
        write_whole(&mut text, &letter()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        for part in ["orders/-/-", "\\x1b]0;owned\\x07", "  at a\\x1b[2J", "trace: \\xff", "2026-"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn json_has_the_bytes() {
        let full_letter = full_letter(&letter());
        assert_eq!(
            full_letter["headers"],
            json!([{ "name": "trace", "value": { "base64": "/w==" } }])
        );
        assert_eq!(full_letter["key"], json!({ "text": "key" }));
        assert_eq!((&full_letter["id"], &full_letter["topic"]), (&json!("2/17"), &json!("orders")));
    }
}
