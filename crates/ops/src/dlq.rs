//! Dead letters: what is dead and why, and replays to the group that failed to process it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use kafka::{Coordinates, DeadLetter, Record, Settings, dead_letter_topic, retry_topic};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::admin::{self, Replayed};
use crate::error::{During, Error, Failure, complain};
use crate::output::Output;
use crate::records::{Sender, all};
use crate::services::admin_of;

/// How long a replay may take: its three retries and more.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// The arguments of `orderflow dlq`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// The group, and the addresses of Kafka and of the group's service.
#[derive(Args)]
struct Target {
    /// The consumer group
    #[arg(long, default_value = "billing", global = true)]
    group: String,
    /// Kafka
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092", global = true)]
    brokers: String,
    /// The prefix of every topic and group
    #[arg(long, env = "KAFKA_TOPIC_PREFIX", default_value = "", global = true)]
    prefix: String,
    /// Further librdkafka properties (TLS, SASL), `property=value,..`
    #[arg(
        long,
        env = "KAFKA_PROPERTIES",
        default_value = "",
        hide_env_values = true,
        global = true
    )]
    properties: String,
    /// The admin port of the group's service; `{service}` and `{port}` are filled in
    #[arg(long, env = "ADMIN_URL", default_value = "http://127.0.0.1:{port}", global = true)]
    admin: String,
}

#[derive(Subcommand)]
enum Command {
    /// List what is dead, and why
    List,
    /// Show one dead letter with its headers, key and value
    Show {
        /// As `list` shows it: topic/partition/offset
        id: String,
    },
    /// Send dead letters to their group again, and report the outcome of each
    Replay {
        /// Only this one: topic/partition/offset
        #[arg(long)]
        id: Option<String>,
        /// At most so many, the oldest first
        #[arg(long)]
        max: Option<usize>,
        /// List what would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A dead letter that no replay has settled well yet.
struct ListedLetter {
    id: String,
    record: Record,
    dead: DeadLetter,
    /// How often it was dead-lettered.
    deaths: usize,
}

/// Returns the exit status: 1 if a replay did not end well.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { target, command } = arguments;
    let settings = settings(&target).during("begin")?;
    let admin = admin_of(&target.admin, &target.group).during("find the group's service")?;
    let recovered = admin::recovered(&admin, &target.group).await;
    let recovered = match (&command, recovered) {
        (_, Ok(recovered)) => recovered,
        (Command::Replay { .. }, Err(error)) => {
            return Err(error).during("ask what was replayed well");
        }
        // Dead letters can be read while their service is down.
        (_, Err(error)) => {
            complain(&format!("{error}, so that what was replayed well is among these.\n"));
            Vec::new()
        }
    };
    let letters = waiting(&settings, &target.group, recovered)?;
    let dead = letters.len();
    let mut out = Output::stdout();
    match command {
        Command::List => list(&mut out, &target.group, &letters, dead).during("list them")?,
        Command::Show { id } => {
            show(&mut out, &chosen(letters, Some(&id), None)?[0]).during("show it")?;
        }
        Command::Replay { id, max, dry_run, yes } => {
            let letters = chosen(letters, id.as_deref(), max)?;
            list(&mut out, &target.group, &letters, dead).during("list them")?;
            if letters.is_empty() || dry_run {
                return Ok(0);
            }
            if !yes && !agreed(&mut out, letters.len(), &target.group)? {
                writeln!(out, "Nothing was sent.").during("replay")?;
                return Ok(1);
            }
            return Replay { settings, group: target.group, admin }.run(&mut out, &letters).await;
        }
    }
    Ok(0)
}

fn settings(target: &Target) -> Result<Settings, Error> {
    let settings = Settings::new(&target.brokers, &target.prefix);
    let unreadable =
        |_| Error::Refused("KAFKA_PROPERTIES is not of the form property=value,..".into());
    settings.with_properties(&target.properties).map_err(unreadable)
}

/// Returns what is in the group's dead-letter topic, except what was replayed well: of each message its last letter.
fn waiting(
    settings: &Settings,
    group: &str,
    recovered: Vec<Replayed>,
) -> Result<Vec<ListedLetter>, Failure> {
    let topic = settings.prefixed(&dead_letter_topic(group).name);
    let records = all(settings, &topic).during("read the dead letters")?;
    let recovered = recovered.into_iter();
    let recovered: BTreeSet<_> =
        recovered.map(|one| (one.timestamp, one.topic, one.partition, one.offset)).collect();
    let mut letters = BTreeMap::new();
    for record in records {
        let Some(dead) = DeadLetter::read(&record) else { continue };
        let Coordinates { topic, partition, offset, timestamp } = dead.origin.clone();
        let id = format!("{}/{partition}/{offset}", settings.unprefixed(&topic));
        let place = (timestamp, topic, partition, offset);
        if recovered.contains(&place) {
            continue;
        }
        let deaths = letters.get(&place).map_or(0, |letter: &ListedLetter| letter.deaths) + 1;
        letters.insert(place, ListedLetter { id, record, dead, deaths });
    }
    Ok(letters.into_values().collect())
}

fn chosen(
    letters: Vec<ListedLetter>,
    id: Option<&str>,
    max: Option<usize>,
) -> Result<Vec<ListedLetter>, Failure> {
    let Some(id) = id else {
        return Ok(letters.into_iter().take(max.unwrap_or(usize::MAX)).collect());
    };
    let found: Vec<_> = letters.into_iter().filter(|letter| letter.id == id).collect();
    if found.is_empty() {
        let why = format!(
            "no dead letter {id} waits: it is unknown, or was replayed well; see `dlq list`"
        );
        return Err(Error::Refused(why)).during("find it");
    }
    Ok(found)
}

fn list(
    out: &mut impl Write,
    group: &str,
    letters: &[ListedLetter],
    dead: usize,
) -> io::Result<()> {
    if letters.is_empty() {
        let chosen = if dead == 0 { "." } else { ", none of them chosen." };
        return writeln!(out, "{dead} dead in {group}{chosen}");
    }
    let of = if letters.len() == dead { String::new() } else { format!("{} of ", letters.len()) };
    writeln!(out, "{of}{dead} dead in {group}:\n")?;
    for letter in letters {
        let text = |name| plain(letter.record.text_header(name).unwrap_or("-"));
        let (event, flow) = (text("ce_id"), text("ce_correlationid"));
        writeln!(out, "  {}", letter.id)?;
        writeln!(out, "     event        {event}, correlation id {flow}")?;
        writeln!(out, "     died         {}", times(letter.deaths))?;
        writeln!(out, "     reason       {}\n", plain(&letter.dead.reason.message))?;
    }
    Ok(())
}

fn times(count: usize) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn show(out: &mut impl Write, letter: &ListedLetter) -> io::Result<()> {
    let ListedLetter { id, record, dead, deaths } = letter;
    writeln!(out, "{id}, of group {}, died {}\n", plain(&dead.group), times(*deaths))?;
    writeln!(out, "exception   {}", plain(&dead.reason.exception))?;
    for line in dead.reason.stacktrace.lines() {
        writeln!(out, "            {}", plain(line))?;
    }
    writeln!(out, "key         {}", bytes(record.key.as_deref()))?;
    for (name, value) in record.headers.iter().filter(|(name, _)| !name.starts_with("kafka_dlt-")) {
        writeln!(out, "header      {}: {}", plain(name), bytes(value.as_deref()))?;
    }
    writeln!(out, "value       {}", bytes(record.value.as_deref()))
}

/// Escapes control characters: a message must not control the terminal.
fn plain(text: &str) -> String {
    bytes(Some(text.as_bytes()))
}

/// Returns text as it is, and anything else escaped.
fn bytes(value: Option<&[u8]>) -> String {
    match value {
        None => "none".into(),
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if !text.contains(char::is_control) => text.into(),
            _ => value.escape_ascii().to_string(),
        },
    }
}

fn agreed(out: &mut impl Write, count: usize, group: &str) -> Result<bool, Failure> {
    let ask = "ask whether to send";
    if !io::stdin().is_terminal() {
        let why = "standard input is no terminal to ask on; give --yes".to_owned();
        return Err(Error::Refused(why)).during(ask);
    }
    write!(out, "Send {count} to {group} again? [y/N] ").during(ask)?;
    out.flush().during(ask)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).during(ask)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

struct Replay {
    settings: Settings,
    group: String,
    admin: String,
}

impl Replay {
    /// Sends all letters, then waits for the outcome of each. Those that were sent are reported even if sending
    /// fails in between.
    async fn run(&self, out: &mut impl Write, letters: &[ListedLetter]) -> Result<u8, Failure> {
        let (sent, refused) = self.send(letters).await?;
        let well = self.report(out, &sent).await?;
        if let Some(error) = refused {
            writeln!(out, "\n{} of {} were sent, {well} ended well.", sent.len(), letters.len())
                .during("report")?;
            return Err(error).during("send the others");
        }
        let badly = letters.len() - well;
        let (result, code) = if badly == 0 {
            (format!("All {well} ended well."), 0)
        } else {
            let of = letters.len();
            (format!("{badly} of {of} did not end well. `list` shows what is dead now."), 1)
        };
        writeln!(out, "\n{result}").during("report")?;
        Ok(code)
    }

    /// Returns the letters that were sent, each with the id of its replay, and the error that ended it early.
    async fn send<'a>(
        &self,
        letters: &'a [ListedLetter],
    ) -> Result<(Vec<(&'a ListedLetter, String)>, Option<Error>), Failure> {
        let topic = self.settings.prefixed(&retry_topic(&self.group).name);
        let sender = Sender::new(&self.settings).during("replay")?;
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            let id = Uuid::now_v7().to_string();
            let mut record = letter.record.clone();
            record.headers = DeadLetter::replay_headers(&letter.record, &id);
            if let Err(error) = sender.send(&topic, &record).await {
                return Ok((sent, Some(error)));
            }
            sent.push((letter, id));
        }
        Ok((sent, None))
    }

    /// Prints the outcome of each replay once it is settled. Returns how many ended well.
    async fn report(
        &self,
        out: &mut impl Write,
        sent: &[(&ListedLetter, String)],
    ) -> Result<usize, Failure> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let mut well = 0;
        for (letter, id) in sent {
            let (ended_well, outcome) = match self.settled(id, deadline).await {
                Some(replayed) => outcome(&replayed),
                None => (false, format!("not settled yet; later, ask {}/replays/{id}", self.admin)),
            };
            well += usize::from(ended_well);
            writeln!(out, "  {}   {outcome}", letter.id).during("report")?;
            out.flush().during("report")?;
        }
        Ok(well)
    }

    /// Returns `None` if the replay is not settled before the deadline. A service that does not answer meanwhile may
    /// be starting.
    async fn settled(&self, id: &str, deadline: Instant) -> Option<Replayed> {
        loop {
            if let Ok(Some(replayed)) = admin::replayed(&self.admin, id).await {
                return Some(replayed);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Returns whether the replay ended well, and its outcome in words.
fn outcome(replayed: &Replayed) -> (bool, String) {
    let reason = plain(replayed.reason.as_deref().unwrap_or_default());
    match replayed.outcome.as_str() {
        "processed" => (true, "processed".into()),
        "duplicate" => (true, "had been processed before; nothing changed".into()),
        "superseded" => (true, "something newer had been processed; nothing changed".into()),
        "ignored" => (true, "of a type that its group ignores; nothing changed".into()),
        "parked" => (false, format!("parked: {reason}")),
        _ => (false, format!("dead again: {reason}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_text_is_escaped() {
        assert_eq!(bytes(Some(b"{\"a\": 1}")), "{\"a\": 1}");
        assert_eq!(bytes(Some(b"\x1b[2J")), "\\x1b[2J");
        assert_eq!(bytes(Some(&[0xff])), "\\xff");
        assert_eq!(bytes(None), "none");
    }

    #[test]
    fn a_replay_that_failed_did_not_end_well() {
        let of = |ended: &str| {
            let replayed = Replayed {
                topic: String::new(),
                partition: 0,
                offset: 0,
                timestamp: 0,
                outcome: ended.into(),
                reason: Some("why".into()),
            };
            outcome(&replayed)
        };
        assert!(of("processed").0 && of("duplicate").0 && of("superseded").0);
        assert_eq!(of("failed"), (false, "dead again: why".into()));
        assert_eq!(of("parked"), (false, "parked: why".into()));
    }
}
