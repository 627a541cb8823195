//! `orderflow status`: the health of all services on one screen, with one exit status.

mod document;
mod failures;
mod lag;
mod line;
mod services;
mod snapshot;

use std::io::Write;

use clap::Args;

use crate::error::{Error, Failure, StepContext};
use crate::json;
use crate::lag::KafkaArguments;
use crate::moment::compact;
use crate::output::Output;
use crate::services::{Services, Target};
use line::StatusLine;
use snapshot::{ServiceStatus, Snapshot};

/// The arguments of `orderflow status`.
#[derive(Args)]
#[command(after_help = "Examples:\n  orderflow status\n  orderflow status --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Returns the exit status: 1 if there is a problem.
pub(crate) async fn run(arguments: &Arguments) -> Result<u8, Failure> {
    show(arguments).await.during("show the status")
}

async fn show(arguments: &Arguments) -> Result<u8, Error> {
    let services = Services::new(&arguments.target)?;
    let snapshot = Snapshot::take(services.all(), arguments.kafka.settings()?).await;
    let lines = lines(&snapshot);
    let is_well = lines.iter().all(StatusLine::is_well);
    let mut out = Output::stdout();
    if arguments.json {
        json::print(&mut out, &document::of(&snapshot, &lines, is_well))?;
    } else {
        writeln!(out, "{}\n", compact(snapshot.at))?;
        lines.iter().try_for_each(|line| line.write(&mut out))?;
        let sum = if is_well { "All is well." } else { "Not all is well." };
        writeln!(out, "\n{sum}")?;
    }
    Ok(u8::from(!is_well))
}

fn lines(snapshot: &Snapshot) -> Vec<StatusLine> {
    let services = &snapshot.services;
    if !services.iter().any(ServiceStatus::is_reachable) {
        let rest = StatusLine::note("the rest", "unknown: no service answers");
        return vec![services::readiness(services), rest];
    }
    let mut lines = vec![
        services::readiness(services),
        services::kafka(services),
        services::outbox(services),
        services::subscriptions(services),
    ];
    lines.push(lag::line(snapshot));
    lines.push(failures::letters(services));
    lines.push(failures::jobs(services));
    lines.push(failures::replays(services));
    lines.push(services::acts(services));
    lines
}
