use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::{Service, StartError};
use crate::config::Config;

/// Settings whose file is reloaded when it changes, so that the setting is the file and not its
/// current content.
const WATCHED: [&str; 3] = ["TENANTS", "EVENT_SENDERS", "OPERATOR_TOKENS"];

/// Runs a service's `main`: reads the configuration, runs the service until SIGTERM or Ctrl-C, and
/// returns failure if it did not start or panicked. SIGHUP reloads the files of keys and operators.
pub fn main<C: Parser + AsRef<Config>>(
    service: &'static str,
    build: impl FnOnce(C) -> Service,
) -> ExitCode {
    let config: C = settings::parse(&WATCHED);
    let format = config.as_ref().log_format();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{service}: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let tracing = match telemetry::init(service, format) {
            Ok(tracing) => tracing,
            Err(error) => {
                eprintln!("{service}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let ended = run(build(config)).await;
        if let Err(error) = &ended {
            tracing::error!(error = error as &dyn std::error::Error, "service failed");
        }
        tracing.shutdown(Duration::from_secs(2)).await;
        if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    });
    // A blocking call into librdkafka must not keep a drained process alive.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn run(service: Service) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let asked_to_end = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        }
    };
    tokio::pin!(asked_to_end);
    let running = tokio::select! {
        running = service.start() => running?,
        signal = &mut asked_to_end => {
            tracing::info!(signal, "service stopped before it was ready");
            return Ok(());
        }
    };
    let signal = loop {
        tokio::select! {
            signal = &mut asked_to_end => break Some(signal),
            () = running.panicked() => break None,
            _ = hangup.recv() => running.reload(),
        }
    };
    tracing::info!(signal, "service draining");
    let drained = running.shutdown().await;
    tracing::info!(drained, "service stopped");
    signal.map(|_| ()).ok_or(StartError::Panicked)
}
