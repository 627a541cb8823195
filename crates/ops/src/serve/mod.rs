//! `orderflow serve`: polls services and Kafka, exports metrics, sends alerts and serves the
//! console.

mod arrivals;
mod connections;
mod exposition;
mod poller;
mod router;
mod service_state;
mod signals;
mod trends;
mod watchman;
mod write_limit;

pub(crate) use arrivals::{Arrivals, Process};
pub(crate) use router::Watched;
pub(crate) use service_state::{
    DEFERRED_DROPPED, GROUP_LABEL, Letters, MESSAGES_LOST, MOST_JOBS, STARTED_AT, ServiceState,
    TASK_LABEL,
};
pub(crate) use trends::{TREND, Trends};

#[cfg(test)]
pub(crate) use service_state::testing;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use clap::Args;
use telemetry::LogFormat;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::alerts::{self, Webhook};
use crate::console::access::{AccessArguments, TlsListener};
use crate::console::{Access, Console, Live};
use crate::error::{Error, Failure, StepContext};
use crate::lag::KafkaArguments;
use crate::services::{Services, Target};

/// Time limit for requests in progress at shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// The arguments of `orderflow serve`.
#[derive(Args)]
#[command(after_help = "\
docs/operations.md lists the rules, thresholds and what to do for each alert.

Example:
  export ALERT_WEBHOOK=https://alerts.example/in ALERT_WEBHOOK_SECRET=whsec_..
  orderflow serve")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// The address to listen on
    #[arg(long, env = "CONSOLE_ADDR", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// A second address, for `/healthz` and `/metrics` alone and without TLS, for probes and
    /// Prometheus
    #[arg(long, env = "METRICS_ADDR")]
    metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    access: AccessArguments,
    /// Address of the trace viewer, for links; `off` if there is none
    #[arg(long, env = "JAEGER_URL", default_value = "http://localhost:16686")]
    jaeger: String,
    /// URL that receives alerts, one POST when an alert fires and one when it resolves; without it
    /// alerts are only logged
    #[arg(long, env = "ALERT_WEBHOOK", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    alert_webhook: String,
    /// Secret that signs them, according to Standard Webhooks: `whsec_..`
    #[arg(long, env = "ALERT_WEBHOOK_SECRET", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    alert_webhook_secret: String,
    /// `json` or `text` [default: text on a terminal]
    #[arg(long, env = "LOG_FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it is neither json nor text".to_owned()),
    }
}

/// Serves until SIGTERM or Ctrl-C. Returns the exit status.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let services = Services::new(&arguments.target).during("find the services")?;
    let kafka = arguments.kafka.settings().during("find Kafka")?;
    let receiver = alerts::Target::read(&arguments.alert_webhook, &arguments.alert_webhook_secret)
        .during("send alerts")?;
    let address = arguments.addr;
    let access = Access::new(&arguments.access, address, &services).during("serve the console")?;
    let tls = arguments.access.tls().during("serve the console")?;
    let format = arguments.log_format.unwrap_or_else(LogFormat::fitting_stdout);
    let tracing = telemetry::init("ops", format).map_err(io::Error::other).during("log")?;
    let listener = bind(address).await?;
    let for_programs = match arguments.metrics_addr {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let shutdown = CancellationToken::new();
    let live = Live::new();
    let (watched, watching) = start(&services, kafka.clone(), receiver, &live, &shutdown);
    if let Some(listener) = for_programs {
        let (routes, shutdown) = (router::programs().with_state(watched.clone()), shutdown.clone());
        tokio::spawn(async move { connections::serve(listener, routes, &shutdown, DRAIN).await });
    }
    let console = Console::new(services, kafka, watched, access, live, shutdown.clone());
    let console = console.with_traces(&arguments.jaeger);
    tracing::info!(address = %listener.local_addr().unwrap_or(address), "server ready");
    match tls {
        Some(tls) => serve(TlsListener::new(listener, tls), console, &shutdown).await,
        None => serve(listener, console, &shutdown).await,
    }
    .during("serve")?;
    if let Ok(webhook) = watching.await {
        webhook.drain().await;
    }
    tracing::info!("server stopped");
    tracing.shutdown(Duration::from_secs(1)).await;
    Ok(0)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.during(format!("listen on {address}"))
}

/// Starts the pollers and the evaluation of the rules.
fn start(
    services: &Services,
    kafka: kafka::Settings,
    receiver: Option<alerts::Target>,
    live: &Live,
    shutdown: &CancellationToken,
) -> (Watched, tokio::task::JoinHandle<Webhook>) {
    let clients = services.all();
    let (to_services, states) = watch::channel(None);
    let (to_lag, lag) = watch::channel(None);
    let (to_alerts, alerts) = watch::channel(Vec::new());
    let (to_trends, trends) = watch::channel(Trends::default());
    tokio::spawn(trends::keep(lag.clone(), to_trends));
    tokio::spawn(poller::poll_services(clients.clone(), to_services));
    tokio::spawn(poller::poll_lag(kafka, clients, states.clone(), to_lag));
    let webhook = Webhook::start(receiver, shutdown.clone());
    let watching =
        watchman::evaluate(states.clone(), lag.clone(), to_alerts, webhook, shutdown.clone());
    let watched = Watched { services: states, lag, alerts, trends };
    tokio::spawn(signals::send(watched.clone(), live.clone()));
    (watched, tokio::spawn(watching))
}

async fn serve<L: Listener<Addr = SocketAddr>>(
    listener: L,
    console: Console,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        };
        tracing::info!(signal = name, "server draining");
        shutdown.cancel();
    };
    tokio::join!(connections::serve(listener, router::router(console), shutdown, DRAIN), stop);
    Ok(())
}
