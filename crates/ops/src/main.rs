#![doc = include_str!("../README.md")]

mod compare;
mod demo;
mod dlq;
mod error;
mod http;
mod local;
mod records;
mod report;
mod system;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use sandbox::Console;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    error::{During, Error, Failure},
    local::Local,
};

/// Watch Orderflow, and run it.
#[derive(Parser)]
#[command(name = "orderflow")]
enum Command {
    /// Start everything, follow three orders to their invoices, and leave nothing behind
    Demo,
    /// Run the same orders by direct calls and by events, while a service is down and while it is slow
    Compare,
    /// Dead letters: see them, and replay them to the group that could not process them
    Dlq {
        #[command(flatten)]
        place: dlq::Where,
        #[command(subcommand)]
        what: dlq::What,
    },
    /// The system in the background, on fixed ports, with its data kept
    Local {
        /// Where data, logs and records of what runs are kept
        #[arg(long, default_value = ".local", global = true)]
        folder: PathBuf,
        #[command(subcommand)]
        what: What,
    },
}

#[derive(Subcommand)]
enum What {
    /// Start it, and return when all is ready
    Start,
    /// Stop it, the services first; its data stays
    Stop,
    /// Say what runs; exit status 0 if all does
    Status,
}

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("orderflow: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(run(command)) {
        Ok(code) => code,
        Err(failure) => {
            report::failure(&failure);
            1
        }
    };
    // A question to Kafka that nobody waits for any more must not hold this up.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Gives the code to exit with.
async fn run(command: Command) -> Result<u8, Failure> {
    let console = Console::new();
    match command {
        Command::Dlq { place, what } => dlq::run(place, what).await,
        Command::Compare => compare::run(&console, told_to_stop()?).await,
        Command::Demo => demo::run(&console, told_to_stop()?).await,
        Command::Local { folder, what } => {
            let local = Local::new(&folder)?;
            match what {
                What::Start => local.start(&console, told_to_stop()?).await,
                What::Stop => local.stop(&console).await,
                What::Status => local.status().await,
            }
        }
    }
}

/// Ends with the number of the first signal that asks this process to stop.
fn told_to_stop() -> Result<impl Future<Output = u8>, Failure> {
    let listen = || {
        let hangup = signal(SignalKind::hangup())?;
        Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup))
    };
    let listening = listen().map_err(Error::io("listen for signals"));
    let (mut interrupt, mut terminate, mut hangup) = listening.during("begin")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        }
    })
}
