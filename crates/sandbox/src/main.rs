//! `sandbox run -- <command>` runs Postgres and Kafka for the duration of a command.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
};

use clap::Parser;
use sandbox::{Console, Error, Servers, ServersOptions, Tools, run_in_foreground, testing};
use tokio::signal::unix::{SignalKind, signal};

/// Real Postgres and Kafka, without containers, for the duration of a command.
#[derive(Parser)]
enum Arguments {
    /// Start both servers, run a command with `SANDBOX_POSTGRES_URL` and `SANDBOX_KAFKA_BROKERS`
    /// set, stop the servers, and exit with the status of the command.
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

/// Runs the command. Returns the exit status.
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
    let mut stopped = None;
    let ended = run_in_foreground(command, async { stopped = Some(stop.await) }).await;

    // Printed first, since it may explain why the command failed.
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
    let code = stopped.or_else(|| status.signal().and_then(|signal| u8::try_from(signal).ok()));
    Ok(match code {
        Some(signal) => 128 + signal,
        None => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    })
}

/// Returns `true` if `cargo run` sets this variable for the program that it starts.
///
/// These variables describe the sandbox's own package. Build scripts are rerun when one of them
/// changes (those of ring and sqlx are), so a cargo that is the command would rebuild everything
/// that depends on them whenever it is started in another way. Variables that a user sets for cargo
/// (`CARGO_HOME`, `CARGO_TARGET_DIR`, `CARGO_INCREMENTAL`, ..) stay.
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

/// Resolves to the number of the first signal that asks this process to stop.
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
