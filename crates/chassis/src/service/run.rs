use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::{Service, StartError};
use crate::config::Config;

/// Settings whose file is reloaded when it changes, so that the setting is the file and not its
/// current content.
const WATCHED: [&str; 3] = ["TENANTS", "EVENT_SENDERS", "OPERATOR_TOKENS"];

/// Time from the signal until the process has ended, except for half a second.
const ENDED_AFTER: Duration = Duration::from_millis(9_500);
/// Limits of the time for the last spans, which get what draining has left.
const EXPORT_LEAST: Duration = Duration::from_millis(500);
const EXPORT_MOST: Duration = Duration::from_secs(2);

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
                eprintln!("{service}: {}", telemetry::error_chain(&error));
                return ExitCode::FAILURE;
            }
        };
        let ended = run(build(config)).await;
        if let Err(error) = &ended {
            tracing::error!(error = error as &dyn std::error::Error, "service failed");
        }
        let used = ended.as_ref().map_or(Duration::ZERO, Instant::elapsed);
        let left = ENDED_AFTER.saturating_sub(used);
        tracing.shutdown(left.clamp(EXPORT_LEAST, EXPORT_MOST)).await;
        if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    });
    // A blocking call into librdkafka must not keep a drained process alive.
    runtime.shutdown_timeout(Duration::from_millis(300));
    code
}

/// Runs a service until it is told to end. Returns when it was told.
async fn run(service: Service) -> Result<Instant, StartError> {
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
            return Ok(Instant::now());
        }
    };
    let signal = loop {
        tokio::select! {
            signal = &mut asked_to_end => break Some(signal),
            () = running.panicked() => break None,
            _ = hangup.recv() => running.reload(),
        }
    };
    let told = Instant::now();
    tracing::info!(signal, "service draining");
    let drained = running.shutdown().await;
    tracing::info!(drained, "service stopped");
    signal.map(|_| told).ok_or(StartError::Panicked)
}
