//! Compares `docs/settings.md`, which is generated from the settings that the programs define.
//! `UPDATE_DOCS=1 cargo test -p orderflow-checks --test settings` regenerates it.

#![allow(clippy::unwrap_used)]

use std::any::TypeId;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use clap::{Arg, Command, CommandFactory};

const FILE: &str = "docs/settings.md";

const HEAD: &str = "\
<!-- Generated from the code: UPDATE_DOCS=1 cargo test -p orderflow-checks --test settings -->

# Settings

Every setting is an environment variable and a flag; the flag wins. A program checks its settings at the start. If it
can't use one, it names it and exits. An empty variable counts as not set. `<service> --help` and
`orderflow serve --help` show the same texts.

Durations are written as `500ms`, `10s`, `15m`, `7d`. `on` and `off` are the values of a switch. A secret is shown in no
log line and by no `--help`, and can be a file: `NAME_FILE` names the file that holds the value of `NAME`.
";

const LIBRARIES: &str = "
## Read by libraries

Every program reads these too. They have no flags.

| variable | default | value | meaning |
| --- | --- | --- | --- |
| `RUST_LOG` | `info` | `level,target=level,..` | Which log lines are written |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | | URL | Where spans are sent, as OTLP over HTTP; without it none are sent |
| `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | | URL | The same for traces alone, with its path |
| `OTEL_TRACES_SAMPLER` | `parentbased_always_on` | name | Which traces are sampled, by the names of OpenTelemetry |
| `OTEL_TRACES_SAMPLER_ARG` | `1.0` | number | Argument of the sampler: for `traceidratio`, the share of traces to keep |
";

/// Settings without a default, which a service refuses to start without.
const REQUIRED: [&str; 3] = ["DATABASE_URL", "KAFKA_BROKERS", "TENANTS"];

/// Settings that no container needs: none of them has a folder for e-mails, and
/// `ORDERFLOW_SERVICES` lists the admin ports.
const NOT_IN_COMPOSE: [&str; 2] = ["MAIL_DIR", "ADMIN_URL"];

#[test]
fn the_document_says_what_the_programs_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
    let wanted = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "{FILE} differs from the code, first in\n{differs:?}\nRegenerate it: UPDATE_DOCS=1 cargo test -p \
         orderflow-checks --test settings"
    );
}

#[test]
fn compose_passes_every_setting_on() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker-compose.yml");
    let compose = fs::read_to_string(path).unwrap();
    let operator = ops::command_line();
    let serve = operator.find_subcommand("serve").unwrap();
    let services = services();
    let commands = services.iter().map(|(_, command)| command).chain([serve]);
    let wanted: BTreeSet<_> = commands
        .flat_map(settings)
        .filter(|setting| !NOT_IN_COMPOSE.contains(&setting.variable.as_str()))
        .flat_map(|setting| {
            let file = format!("{}_FILE", setting.variable);
            let is_secret = setting.value.contains("secret") && setting.variable != "DATABASE_URL";
            [Some(setting.variable), is_secret.then_some(file)]
        })
        .flatten()
        .collect();
    let passed: BTreeSet<_> =
        compose.lines().filter_map(|line| line.trim().split_once(": ")).map(|it| it.0).collect();
    let missing: Vec<_> = wanted.iter().filter(|it| !passed.contains(it.as_str())).collect();
    assert!(missing.is_empty(), "docker-compose.yml does not pass on {missing:?}");
}

#[test]
fn compose_creates_the_databases_that_its_services_use_and_no_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = fs::read_to_string(root.join("deploy/postgres/roles.sh")).unwrap();
    let compose = fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let mut lines = script.lines();
    let created = lines.find_map(|it| it.strip_prefix("for name in ")?.strip_suffix("; do"));
    let created: BTreeSet<_> = created.unwrap().split(' ').map(str::to_owned).collect();
    let urls = compose.split("@postgres/").skip(1);
    let used: BTreeSet<_> = urls.filter_map(|rest| Some(rest.lines().next()?.to_owned())).collect();
    assert_eq!(created, used);
    let passwords = compose.lines().filter_map(|line| line.trim().split_once("_DB_PASSWORD: "));
    let given: BTreeSet<_> = passwords.map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(created, given);
}

fn services() -> [(&'static str, Command); 4] {
    [
        ("order", order::Config::command()),
        ("billing", billing::Config::command()),
        ("notification", notification::Config::command()),
        ("analytics", analytics::Config::command()),
    ]
}

fn document() -> String {
    let services = services();
    let mut all = services.iter().map(|(_, command)| names(command));
    let first = all.next().unwrap();
    let shared = all.fold(first, |shared, names| shared.intersection(&names).cloned().collect());
    let mut text = HEAD.to_owned();
    text.push_str("\n## Every service\n\n`order`, `billing`, `notification` and `analytics`.\n");
    table(&mut text, settings(&services[0].1).filter(|it| shared.contains(&it.variable)));
    for (name, command) in &services {
        let own: Vec<_> = settings(command).filter(|it| !shared.contains(&it.variable)).collect();
        write!(text, "\n## {name}\n").unwrap();
        if own.is_empty() {
            text.push_str("\nNo further settings.\n");
        } else {
            table(&mut text, own.into_iter());
        }
    }
    let operator = ops::command_line();
    let serve = operator.find_subcommand("serve").unwrap();
    text.push_str("\n## orderflow serve\n");
    table(&mut text, settings(serve));
    text.push_str(LIBRARIES);
    text
}

fn names(command: &Command) -> BTreeSet<String> {
    settings(command).map(|setting| setting.variable).collect()
}

fn settings(command: &Command) -> impl Iterator<Item = Setting> {
    command.get_arguments().filter(|argument| argument.get_env().is_some()).map(Setting::of)
}

fn table(text: &mut String, settings: impl Iterator<Item = Setting>) {
    text.push_str(
        "\n| variable | flag | default | value | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for setting in settings {
        writeln!(text, "{setting}").unwrap();
    }
}

struct Setting {
    variable: String,
    flag: String,
    default: String,
    value: String,
    meaning: String,
}

impl Setting {
    fn of(argument: &Arg) -> Self {
        let variable = argument.get_env().unwrap().to_str().unwrap().to_owned();
        let help = argument.get_long_help().or(argument.get_help()).unwrap().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let (meaning, computed) = without_default(&help);
        let of_clap: Vec<_> =
            argument.get_default_values().iter().map(|it| it.to_str().unwrap()).collect();
        let default = match of_clap.join(",") {
            value if !value.is_empty() => format!("`{value}`"),
            _ if REQUIRED.contains(&variable.as_str()) => "**required**".to_owned(),
            _ if !computed.is_empty() => computed.to_owned(),
            _ => option(&variable).map(|it| format!("`{it}`")).unwrap_or_default(),
        };
        let value = value(argument, &variable, &default);
        let flag = format!("`--{}`", argument.get_long().unwrap());
        Self { variable, flag, default, value, meaning: meaning.to_owned() }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, flag, default, value, meaning } = self;
        let row = format!(
            "| `{variable}` | {flag} | {default} | {value} | {} |",
            meaning.replace('|', "\\|")
        );
        f.write_str(&row.replace("|  |", "| |"))
    }
}

/// Splits a help text into its meaning and the default that it states. Such a default is unknown to
/// clap.
fn without_default(help: &str) -> (&str, &str) {
    let stated = [" [default: ", "; by default "];
    let split = stated.iter().find_map(|start| help.split_once(start));
    split.map_or((help, ""), |(meaning, rest)| (meaning, rest.trim_end_matches(']')))
}

/// Returns a subscription's default, which the code sets instead of the command line.
fn option(variable: &str) -> Option<String> {
    let options = consumer::Options::default();
    let duration = |duration: Duration| {
        let days = duration.as_secs() / 86_400;
        let is_whole = days > 0 && duration == Duration::from_hours(24 * days);
        if is_whole { format!("{days}d") } else { humantime::format_duration(duration).to_string() }
    };
    Some(match variable {
        "CONSUMER_LANES" => options.lanes.to_string(),
        "CONSUMER_MAX_BATCH" => options.max_batch.to_string(),
        "CONSUMER_RETRIES" => options.retries.to_string(),
        "CONSUMER_FIRST_BACKOFF" => duration(options.first_backoff),
        "CONSUMER_BACKOFF_FACTOR" => options.backoff_factor.to_string(),
        "CONSUMER_CONFLICT_LIMIT" => duration(options.conflict_limit),
        "CONSUMER_BREAKER_LETTERS" => options.breaker_letters.to_string(),
        "CONSUMER_BREAKER_PROBE" => duration(options.breaker_probe),
        "CONSUMER_HANDLER_TIMEOUT" => duration(options.handler_timeout),
        "CONSUMER_MAX_REPLAYS" => options.max_replays.to_string(),
        "CONSUMER_MAX_QUEUED" => options.max_queued.to_string(),
        "CONSUMER_FETCH_WAIT" => duration(options.fetch_wait),
        "CONSUMER_DRAIN_TIMEOUT" => duration(options.drain_timeout),
        "INBOX_RETENTION" => options.inbox_retention.map_or("forever".into(), duration),
        "OUTBOX_ALLOWANCE" => duration(options.outbox_allowance),
        _ => return None,
    })
}

/// Returns the kind of a setting's value, with its unit.
fn value(argument: &Arg, variable: &str, default: &str) -> String {
    let parser = argument.get_value_parser().type_id();
    let is = |id: TypeId| parser == id;
    let is_number =
        [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
    let choices: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    let value = if !choices.is_empty() {
        choices.join(", ")
    } else if default == "`on`" || default == "`off`" {
        "`on`, `off`".to_owned()
    } else if is(TypeId::of::<Duration>()) || variable == "INBOX_RETENTION" {
        "duration".to_owned()
    } else if is(TypeId::of::<SocketAddr>()) {
        "address:port".to_owned()
    } else if is(TypeId::of::<PathBuf>())
        || ["_FILE", "_LOCATION"].iter().any(|ending| variable.ends_with(ending))
    {
        "path".to_owned()
    } else if is_number.into_iter().any(is) || default.trim_matches('`').parse::<u64>().is_ok() {
        let units = [("_MB", "MiB"), ("_BYTES", "bytes")];
        let unit = units.iter().find(|(ending, _)| variable.ends_with(ending));
        unit.map_or("number", |(_, unit)| unit).to_owned()
    } else if variable.ends_with("_URL") {
        "URL".to_owned()
    } else {
        "text".to_owned()
    };
    if argument.is_hide_env_values_set() { format!("{value}, secret") } else { value }
}
