#![doc = include_str!("../README.md")]

mod backlog;
mod batch;
mod client;
mod consumer;
mod dedupe;
mod deferred;
mod flow;
mod flow_steps;
mod growth;
mod jobs;
mod load;
mod orders;
mod profile;
mod publishing;
mod ready;
mod relay;
mod report;
mod servers;
mod telemetry_cost;

use std::env;
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use sandbox::Console;
use telemetry::LogFormat;

use crate::report::{Report, Row};
use crate::servers::Bench;

/// Result of a row. Errors are printed and not distinguished.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Rows of the benchmark, in the order of execution.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Name {
    Consumer,
    Batch,
    Backlog,
    Relay,
    Flow,
    Orders,
    FlowSteps,
    Telemetry,
    DeadConsumer,
    Deferred,
    Jobs,
    Ready,
    /// Last, because the rows that it writes slow the following ones.
    Dedupe,
}

/// Compares each part with the fastest possible implementation
#[derive(Parser)]
struct Args {
    /// Measures only these rows, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Measures how cost grows instead: these curves, separated by commas, or all
    #[arg(long, value_delimiter = ',', num_args = 0.., conflicts_with = "only")]
    growth: Option<Vec<growth::Name>>,
    /// Measures instead what an order takes: processors, statements, WAL and syncs
    #[arg(long, conflicts_with_all = ["only", "growth"])]
    profile: bool,
    /// Number of measurements of each side; the medians count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Does a tenth of the work, as a test of the program; the results are not meaningful
    #[arg(long)]
    quick: bool,
    /// Sets Postgres' fsync; `off` leaves the processor time
    #[arg(long, default_value = "on", value_parser = ["on", "off"])]
    fsync: String,
}

/// Amount of work.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rounds: u32,
    quick: bool,
}

impl Size {
    /// Returns `full`, or a tenth of it with `--quick`.
    pub(crate) fn of(self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }

    /// Returns `full`, or a fifth of it and at least 1 with `--quick`.
    pub(crate) fn seconds(self, full: u64) -> u64 {
        if self.quick { (full / 5).max(1) } else { full }
    }
}

fn main() -> ExitCode {
    // Without the variable, a log line per message would be measured, too.
    if env::var_os("RUST_LOG").is_none() {
        return restart_with_fewer_lines();
    }
    let args = Args::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(until_ctrl_c(&args)));
    ended.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

/// Restarts the program with `RUST_LOG=warn`, since setting a variable of the own process is
/// unsafe. Returns only if that fails.
fn restart_with_fewer_lines() -> ExitCode {
    let started = env::current_exe().map(|program| {
        Command::new(program).args(env::args_os().skip(1)).env("RUST_LOG", "warn").exec()
    });
    let (Ok(error) | Err(error)) = started;
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}

async fn until_ctrl_c(args: &Args) -> Fallible<ExitCode> {
    // Tracing as in a service, without an exporter.
    telemetry::init("bench", LogFormat::fitting_stdout())?;
    tokio::select! {
        ended = run(args) => ended,
        // Dropping the future ends the servers and services.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn run(args: &Args) -> Fallible<ExitCode> {
    let console = Console::new();
    let size = Size { rounds: args.rounds, quick: args.quick };
    if args.profile {
        return profile::run(&console, &args.fsync, size).await;
    }
    let bench = Bench::start(&console, &args.fsync, &[]).await?;
    if let Some(only) = &args.growth {
        let grown = growth::run(&bench, size, only, &console).await;
        bench.stop().await;
        return grown;
    }
    let mut report = Report::new(console);
    for name in Name::value_variants() {
        if args.only.is_empty() || args.only.contains(name) {
            measure(*name, &bench, size, &mut report).await;
        }
    }
    bench.stop().await;
    report.finish()
}

async fn measure(name: Name, bench: &Bench, size: Size, report: &mut Report) {
    let measured = match bench.settle().await {
        Ok(()) => rows(name, bench, size, report).await,
        Err(error) => Err(error),
    };
    report.add(&format!("{name:?}").to_lowercase(), measured);
}

async fn rows(name: Name, bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    match name {
        Name::Consumer => consumer::measure(bench, size, report).await,
        Name::Batch => batch::measure(bench, size, report).await,
        Name::Dedupe => dedupe::measure(bench, size, report).await,
        Name::Backlog => backlog::measure(bench, size, report).await,
        Name::Relay => relay::measure(bench, size, report).await,
        Name::Flow => flow::measure(bench, size, report).await,
        Name::Orders => orders::measure(bench, size, report).await,
        Name::Telemetry => telemetry_cost::measure(bench, size, report).await,
        Name::FlowSteps => flow_steps::measure(bench, size, report).await,
        Name::DeadConsumer => flow::with_one_dead(bench, size, report).await,
        Name::Deferred => deferred::measure(size, report).await,
        Name::Jobs => jobs::measure(bench, size, report).await,
        Name::Ready => ready::measure(bench, size, report).await,
    }
}
