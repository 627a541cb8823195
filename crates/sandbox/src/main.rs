//! `sandbox run -- <command>`: Postgres and Kafka for as long as one command runs.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
};

use clap::Parser;
use sandbox::{Console, Error, Servers, ServersOptions, Tools, run_in_foreground, testing};
use tokio::signal::unix::{SignalKind, signal};

/// Real Postgres and Kafka, without containers, for as long as a command runs.
#[derive(Parser)]
enum Arguments {
    /// Start both servers, run a command with `SANDBOX_POSTGRES_URL` and `SANDBOX_KAFKA_BROKERS`
    /// set, stop them, and exit as the command did.
    Run {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments::Run { command } = Arguments::parse();
    match run(&command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sandbox: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::from(125)
        }
    }
}

/// Gives the code to exit with.
async fn run(words: &[OsString]) -> Result<u8, Error> {
    let io = |doing: &str| {
        let doing = doing.to_owned();
        |source| Error::Io { doing, source }
    };
    let console = Console::new();
    let mut stop = Box::pin(told_to_stop().map_err(io("listen for signals"))?);
    let tools = Tools::find()?;
    let mut servers = tokio::select! {
        started = Servers::start(ServersOptions::default(), &tools, &console) => started?,
        signal = &mut stop => return Ok(128 + signal),
    };

    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.env(testing::POSTGRES_URL, servers.postgres.url());
    command.env(testing::KAFKA_BROKERS, servers.kafka.brokers());
    let mut told = None;
    let ended = run_in_foreground(command, async { told = Some(stop.await) }).await;

    // Whoever reads why the command failed wants to know this first.
    for process in [servers.postgres.process(), servers.kafka.process()] {
        if let Some(status) = process.try_exit() {
            console.line(&format!(
                "sandbox: {} had ended ({status}) before the command did",
                process.name()
            ));
        }
    }
    servers.stop().await;
    let status = ended.map_err(io(&format!("run {}", words[0].display())))?;
    let code = told.or_else(|| status.signal().and_then(|signal| u8::try_from(signal).ok()));
    Ok(match code {
        Some(signal) => 128 + signal,
        None => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    })
}

/// Ends with the number of the first signal that asks this process to stop.
fn told_to_stop() -> std::io::Result<impl Future<Output = u8>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        }
    })
}
