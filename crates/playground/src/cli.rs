//! The command line.

use std::{
    io::{Write, stderr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use sandbox::Console;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Error, compare, demo,
    failure::{Failure, StepContext},
    load::{self, Load},
    local::Local,
};

/// Run Orderflow on this machine, on real servers, without containers.
#[derive(Parser)]
#[command(name = "playground")]
enum Command {
    /// Start everything, follow five orders to their invoices, and clean up
    Demo,
    /// Run the same orders by direct calls and by events, while a service is down and while it is
    /// slow
    Compare,
    /// Place orders on the local system at a steady rate, and count their invoices
    Load(Load),
    /// Run the system in the background, on fixed ports, with its data kept
    Local {
        /// The folder for data, logs and records of the running processes
        #[arg(long, env = "LOCAL_FOLDER", default_value = ".local", global = true)]
        folder: PathBuf,
        #[command(subcommand)]
        command: LocalCommand,
    },
}

#[derive(Subcommand)]
enum LocalCommand {
    /// Start it, and return when all services are ready
    Start,
    /// Stop it, the services first; its data is kept
    Stop,
    /// List the running processes; exit status 0 if all are running
    Status,
}

/// Runs the command of the process's arguments.
///
/// The exit status is 0 on success, 1 on failure, 2 if the arguments are wrong, and 128 + the
/// signal if a signal stopped it.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(stderr(), "playground: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(command));
    // Kafka's client may still wait for a response that is not needed any more.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit status.
async fn run(command: Command) -> Result<u8, Failure> {
    let console = Console::new();
    match command {
        Command::Compare => compare::run(&console, told_to_stop()?).await,
        Command::Demo => demo::run(&console, told_to_stop()?).await,
        Command::Load(load) => load::run(load, told_to_stop()?).await,
        Command::Local { folder, command } => {
            let local = Local::new(&folder)?;
            match command {
                LocalCommand::Start => local.start(&console, told_to_stop()?).await,
                LocalCommand::Stop => local.stop(&console).await,
                LocalCommand::Status => local.status().await,
            }
        }
    }
}

/// Resolves to the number of the first signal that asks the process to stop.
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
