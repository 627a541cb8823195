//! `sandbox run -- <command>`: Postgres and Kafka for as long as one command runs.

use std::{
    env,
    ffi::{OsStr, OsString},
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
        /// Start a Kafka cluster of three brokers instead of one
        #[arg(long)]
        cluster: bool,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments::Run { cluster, command } = Arguments::parse();
    let options = ServersOptions { kafka_cluster: cluster, ..ServersOptions::default() };
    match run(options, &command).await {
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
async fn run(options: ServersOptions, words: &[OsString]) -> Result<u8, Error> {
    let io = |doing: &str| {
        let doing = doing.to_owned();
        |source| Error::Io { doing, source }
    };
    let console = Console::new();
    let mut stop = Box::pin(told_to_stop().map_err(io("listen for signals"))?);
    let tools = Tools::find()?;
    let mut servers = tokio::select! {
        started = Servers::start(options, &tools, &console) => started?,
        signal = &mut stop => return Ok(128 + signal),
    };

    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    for (name, _) in env::vars_os().filter(|(name, _)| is_set_by_cargo(name)) {
        command.env_remove(name);
    }
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

/// Returns whether `cargo run` sets this variable for the program that it starts.
///
/// They describe the sandbox's own package. Build scripts ask to be run again when one of them
/// changes (those of ring and sqlx do), so a cargo that is the command would rebuild all that
/// depends on them, each time it is started in another way. What a user sets for cargo
/// (`CARGO_HOME`, `CARGO_TARGET_DIR`, `CARGO_INCREMENTAL`, ..) stays.
/// <https://doc.rust-lang.org/cargo/reference/environment-variables.html>
fn is_set_by_cargo(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
    ];
    const PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_BIN_EXE_"];
    name.to_str().is_some_and(|name| {
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
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
