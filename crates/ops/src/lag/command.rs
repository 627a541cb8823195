//! `orderflow lag`.

use std::io::{IsTerminal, Write, stdout};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::subscribed::{self, Wanted};
use super::{GroupLag, KafkaArguments, LAG_THRESHOLD, Lag, Meter, json, table};
use crate::error::{Error, Failure, StepContext, complain};
use crate::output::Output;
use crate::services::{Services, Target};

/// Time between the two measurements for rates. Services commit once a second.
const APART: Duration = Duration::from_secs(2);
/// How long an apparently stalled group is observed, so that a slow one is not reported as stalled.
const PATIENCE: Duration = Duration::from_secs(10);
const WATCHED_EVERY: Duration = Duration::from_secs(5);

/// The arguments of `orderflow lag`.
#[derive(Args)]
#[command(after_help = "\
Exit status, of the services' groups or the one of --group:
  0  no group is over the threshold or stalled
  1  a group is over the threshold, stalled, without its topic or not measured,
     or has lost messages
  2  the group does not exist

Example:
  orderflow lag --group billing --threshold 100 && echo caught up")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// Show this consumer group only
    #[arg(long)]
    group: Option<String>,
    /// Fail if a group is more than this number of messages behind
    #[arg(long, default_value_t = LAG_THRESHOLD)]
    threshold: u64,
    /// Measure every 5 s, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON; with --watch one document per line
    #[arg(long)]
    json: bool,
}

/// Returns the exit status.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let settings = arguments.kafka.settings().during("measure lag")?;
    let services = Services::new(&arguments.target).during("find the services")?;
    let (mut wanted, silent) = subscribed::ask(&services.all()).await;
    wanted.only.clone_from(&arguments.group);
    for (service, _) in &silent {
        complain(&format!(
            "{service} does not answer; its groups are known by their committed offsets"
        ));
    }
    let mut command = Command {
        meter: Meter::new(settings, PATIENCE),
        wanted: Arc::new(wanted),
        out: Output::stdout(),
        arguments,
    };
    command.run().await.during("measure lag")
}

struct Command {
    meter: Meter,
    wanted: Arc<Wanted>,
    arguments: Arguments,
    out: Output<std::io::StdoutLock<'static>>,
}

impl Command {
    async fn run(&mut self) -> Result<u8, Error> {
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        let mut status = self.show_first().await?;
        while self.arguments.watch && !self.out.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(WATCHED_EVERY) => {}
                _ = &mut interrupted => break,
            }
            match self.meter.measure(&self.wanted).await {
                Ok(lag) => status = self.show(&lag)?,
                // The next measurement may succeed.
                Err(error @ Error::Kafka { .. }) => {
                    complain(&format!("Kafka does not answer: {error}"));
                    status = 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(status)
    }

    /// Measures twice, and repeats while a group appears stalled.
    async fn show_first(&mut self) -> Result<u8, Error> {
        let first = self.meter.measure(&self.wanted).await?;
        if let (Some(group), true) = (&self.arguments.group, first.groups.is_empty()) {
            return Err(Error::Refused(format!(
                "there is no consumer group {group}; `orderflow lag` lists those that there are"
            )));
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(APART).await;
            let lag = self.meter.measure(&self.wanted).await?;
            let is_undecided = tokio::time::Instant::now() <= deadline
                && lag.groups.iter().any(|it| self.counts(it) && it.may_be_stalled());
            if !is_undecided {
                return self.show(&lag);
            }
        }
    }

    /// Returns whether a group affects the exit status.
    fn counts(&self, group: &GroupLag) -> bool {
        group.service.is_some() || self.arguments.group.is_some()
    }

    fn show(&mut self, lag: &Lag) -> Result<u8, Error> {
        let threshold = self.arguments.threshold;
        if self.arguments.json {
            json::write(&mut self.out, lag, threshold)?;
        } else {
            if self.arguments.watch && stdout().is_terminal() {
                // Rewrites the screen from the top, which does not flicker.
                write!(self.out, "\x1b[H\x1b[J")?;
            }
            if self.arguments.watch {
                writeln!(self.out, "{}\n", humantime::format_rfc3339_seconds(lag.at))?;
            }
            table::write(&mut self.out, lag, threshold)?;
        }
        self.out.flush()?;
        let mut counting = lag.groups.iter().filter(|it| self.counts(it));
        Ok(u8::from(!counting.all(|it| it.is_well(threshold))))
    }
}
