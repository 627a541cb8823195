//! Dead letters: what is dead and why, and sending it again to the group that could not process it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use kafka::{Coordinates, DeadLetter, Record, Settings, Topic};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::{During, Error, Failure};
use crate::http::{self, Replayed};
use crate::records::{Sender, all};
use crate::system::SERVICES;

/// How long a replay may take: its three retries and more.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// Which group, and where everything is.
#[derive(Args)]
pub(crate) struct Where {
    /// The consumer group
    #[arg(long, default_value = "billing", global = true)]
    group: String,
    /// Kafka
    #[arg(long, env = "KAFKA_BROKERS", default_value = "127.0.0.1:9092", global = true)]
    brokers: String,
    /// What precedes every topic and group
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
pub(crate) enum What {
    /// What is dead, and why
    List,
    /// One dead letter, whole
    Show {
        /// As `list` shows it: topic/partition/offset
        id: String,
    },
    /// Send dead letters to their group again, and say what became of each
    Replay {
        /// Only this one: topic/partition/offset
        #[arg(long)]
        id: Option<String>,
        /// At most so many, the oldest first
        #[arg(long)]
        max: Option<usize>,
        /// Say what would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A dead letter that nobody has replayed well yet.
struct Letter {
    id: String,
    record: Record,
    dead: DeadLetter,
    /// How often it died.
    deaths: usize,
}

/// Gives the code to exit with: 1 if a replay did not end well.
pub(crate) async fn run(place: Where, what: What) -> Result<u8, Failure> {
    let settings = settings(&place).during("begin")?;
    let admin = admin_of(&place).during("find the group's service")?;
    let recovered = http::recovered(&admin, &place.group).await;
    let recovered = match (&what, recovered) {
        (_, Ok(recovered)) => recovered,
        (What::Replay { .. }, Err(error)) => {
            return Err(error).during("ask what was replayed well");
        }
        // What is dead can be read while its service is down.
        (_, Err(error)) => {
            eprintln!("{error}, so that what was replayed well is among these.\n");
            Vec::new()
        }
    };
    let letters = waiting(&settings, &place.group, recovered).await?;
    let dead = letters.len();
    match what {
        What::List => {
            list(&place.group, &letters, dead);
            Ok(0)
        }
        What::Show { id } => {
            show(&chosen(letters, Some(&id), None)?[0]);
            Ok(0)
        }
        What::Replay { id, max, dry_run, yes } => {
            let letters = chosen(letters, id.as_deref(), max)?;
            list(&place.group, &letters, dead);
            if letters.is_empty() || dry_run {
                return Ok(0);
            }
            if !yes && !agreed(letters.len(), &place.group)? {
                println!("Nothing was sent.");
                return Ok(1);
            }
            replay(&settings, &place.group, &admin, &letters).await
        }
    }
}

fn settings(place: &Where) -> Result<Settings, Error> {
    let settings = Settings::new(&place.brokers, &place.prefix);
    let unreadable =
        |_| Error::Refused("KAFKA_PROPERTIES is not of the form property=value,..".into());
    settings.with_properties(&place.properties).map_err(unreadable)
}

/// A group is named after its service: `analytics`, `analytics.2`.
fn admin_of(Where { admin, group, .. }: &Where) -> Result<String, Error> {
    let name = group.split('.').next().unwrap_or_default();
    let admin = admin.trim_end_matches('/').replace("{service}", name);
    if !admin.contains("{port}") {
        return Ok(admin);
    }
    let known = SERVICES.iter().find(|service| service.name == name);
    let port = known.map(|service| service.admin.to_string());
    port.map(|port| admin.replace("{port}", &port)).ok_or_else(|| {
        let all: Vec<_> = SERVICES.iter().map(|service| service.name).collect();
        let all = all.join(", ");
        let why = format!(
            "no service has the group {group}; there are {all}, and for another one give --admin"
        );
        Error::Refused(why)
    })
}

/// What lies in the group's dead letters, but for what was replayed well: the last death of each.
async fn waiting(
    settings: &Settings,
    group: &str,
    recovered: Vec<Replayed>,
) -> Result<Vec<Letter>, Failure> {
    let topic = settings.prefixed(&Topic::dead_letters(group).name);
    let records = all(settings, &topic).await.during("read the dead letters")?;
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
        let deaths = letters.get(&place).map_or(0, |letter: &Letter| letter.deaths) + 1;
        letters.insert(place, Letter { id, record, dead, deaths });
    }
    Ok(letters.into_values().collect())
}

fn chosen(
    letters: Vec<Letter>,
    id: Option<&str>,
    max: Option<usize>,
) -> Result<Vec<Letter>, Failure> {
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

fn list(group: &str, letters: &[Letter], dead: usize) {
    if letters.is_empty() {
        println!(
            "{dead} dead in {group}{}",
            if dead == 0 { "." } else { ", none of them chosen." }
        );
        return;
    }
    let of = if letters.len() == dead { String::new() } else { format!("{} of ", letters.len()) };
    println!("{of}{dead} dead in {group}:\n");
    for letter in letters {
        let text = |name| plain(letter.record.text_header(name).unwrap_or("-"));
        println!("  {}", letter.id);
        println!(
            "     event        {}, correlation id {}",
            text("ce_id"),
            text("ce_correlationid")
        );
        println!("     died         {}", times(letter.deaths));
        println!("     reason       {}\n", plain(&letter.dead.reason.message));
    }
}

fn times(count: usize) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn show(letter: &Letter) {
    let Letter { id, record, dead, deaths } = letter;
    println!("{id}, of group {}, died {}\n", plain(&dead.group), times(*deaths));
    println!("exception   {}", plain(&dead.reason.exception));
    for line in dead.reason.stacktrace.lines() {
        println!("            {}", plain(line));
    }
    println!("key         {}", bytes(record.key.as_deref()));
    for (name, value) in record.headers.iter().filter(|(name, _)| !name.starts_with("kafka_dlt-")) {
        println!("header      {}: {}", plain(name), bytes(value.as_deref()));
    }
    println!("value       {}", bytes(record.value.as_deref()));
}

/// A terminal must not be written to by a message.
fn plain(text: &str) -> String {
    bytes(Some(text.as_bytes()))
}

/// Text as it is, anything else escaped.
fn bytes(value: Option<&[u8]>) -> String {
    match value {
        None => "none".into(),
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if !text.contains(char::is_control) => text.into(),
            _ => value.escape_ascii().to_string(),
        },
    }
}

fn agreed(count: usize, group: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let why = "there is nobody to ask; say --yes".to_owned();
        return Err(Error::Refused(why)).during("ask whether to send");
    }
    print!("Send {count} to {group} again? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.map_err(Error::io("read the answer")).during("ask whether to send")?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Sends all, then waits for each. What was sent is told of, whatever comes between.
async fn replay(
    settings: &Settings,
    group: &str,
    admin: &str,
    letters: &[Letter],
) -> Result<u8, Failure> {
    let topic = settings.prefixed(&Topic::retry(group).name);
    let sender = Sender::new(settings).during("replay")?;
    let mut sent = Vec::with_capacity(letters.len());
    let mut refused = None;
    for letter in letters {
        let id = Uuid::now_v7().to_string();
        let mut record = letter.record.clone();
        record.headers = DeadLetter::replay_headers(&letter.record, &id);
        if let Err(error) = sender.send(&topic, &record).await {
            refused = Some(error);
            break;
        }
        sent.push((letter, id));
    }
    let deadline = Instant::now() + SETTLED_WITHIN;
    let mut well = 0;
    for (letter, id) in &sent {
        let (ended_well, told) = match settled(admin, id, deadline).await {
            Some(replayed) => told(&replayed),
            None => (false, format!("not settled yet; later, ask {admin}/replays/{id}")),
        };
        well += usize::from(ended_well);
        println!("  {}   {told}", letter.id);
    }
    if let Some(error) = refused {
        println!("\n{} of {} were sent, {well} ended well.", sent.len(), letters.len());
        return Err(error).during("send the others");
    }
    if well == letters.len() {
        println!("\nAll {well} ended well.");
        return Ok(0);
    }
    let badly = letters.len() - well;
    println!("\n{badly} of {} did not end well. `list` shows what is dead now.", letters.len());
    Ok(1)
}

/// None: not before the deadline. A service that does not answer meanwhile may be starting.
async fn settled(admin: &str, id: &str, deadline: Instant) -> Option<Replayed> {
    loop {
        if let Ok(Some(replayed)) = http::replayed(admin, id).await {
            return Some(replayed);
        }
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether it ended well, and in words.
fn told(replayed: &Replayed) -> (bool, String) {
    let reason = plain(replayed.reason.as_deref().unwrap_or_default());
    match replayed.outcome.as_str() {
        "processed" => (true, "processed".into()),
        "duplicate" => (true, "had been processed before; nothing changed".into()),
        "superseded" => (true, "something newer had been processed; nothing changed".into()),
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
    fn the_admin_port_is_that_of_the_groups_service() {
        let of = |group: &str, admin: &str| {
            let (brokers, prefix, properties) = (String::new(), String::new(), String::new());
            let admin = admin.into();
            admin_of(&Where { group: group.into(), brokers, prefix, properties, admin })
        };
        let (here, by_name) = ("http://127.0.0.1:{port}", "http://{service}:{port}/");
        assert_eq!(of("billing", here).unwrap(), "http://127.0.0.1:9182");
        assert_eq!(of("analytics.2", by_name).unwrap(), "http://analytics:9184");
        assert_eq!(of("else", "http://there:1").unwrap(), "http://there:1");
        assert!(of("else", by_name).is_err_and(|error| error.to_string().contains("--admin")));
    }

    #[test]
    fn a_replay_that_failed_did_not_end_well() {
        let of = |outcome: &str| {
            let replayed = Replayed {
                topic: String::new(),
                partition: 0,
                offset: 0,
                timestamp: 0,
                outcome: outcome.into(),
                reason: Some("why".into()),
            };
            told(&replayed)
        };
        assert!(of("processed").0 && of("duplicate").0 && of("superseded").0);
        assert_eq!(of("failed"), (false, "dead again: why".into()));
        assert_eq!(of("parked"), (false, "parked: why".into()));
    }
}
