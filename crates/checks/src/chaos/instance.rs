//! A service as a process of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use reqwest::Client;
use sandbox::{Life, Process};
use serde_json::{Value, json};

use super::Error;

/// Never by way of a proxy, and never longer than anybody waits for an order.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5));
    client.build().unwrap_or_default()
});

const TOKEN: &str = "operator";
/// How long a service may take to drain after SIGTERM.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// What the caller's environment may have for a system of its own.
const OTHERS: [&str; 4] =
    ["KAFKA_TOPIC_PREFIX", "KAFKA_PROPERTIES", "SABOTAGE_DIE", "SABOTAGE_DIE_ON"];

/// What an instance is started with, each time anew.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: PathBuf,
    pub(crate) database_url: String,
    pub(crate) brokers: String,
    pub(crate) log: PathBuf,
    /// More than every service is given: sabotage, client properties.
    pub(crate) more: Vec<(String, String)>,
}

/// A running instance of a service, or one that has died.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) http: u16,
    admin: u16,
    plan: Plan,
    pub(crate) process: Process,
}

impl Instance {
    /// Starts it on these ports, HTTP and admin, and waits until it is ready.
    pub(crate) async fn start(plan: Plan, (http, admin): (u16, u16)) -> Result<Self, Error> {
        let process = launch(&plan, http, admin).await?;
        Ok(Self { http, admin, plan, process })
    }

    /// Starts it again on the same ports, without what made it die.
    pub(crate) async fn start_again(&mut self) -> Result<(), Error> {
        self.plan.more.retain(|(name, _)| name != "SABOTAGE_DIE");
        self.process = launch(&self.plan, self.http, self.admin).await?;
        Ok(())
    }

    /// How it died by itself, if it did so in time.
    pub(crate) async fn died_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(limit, self.process.wait()).await.ok()
    }

    /// SIGTERM. Gives how long it took to end, none if it had to be killed or did not end well.
    pub(crate) async fn terminate(&mut self) -> Option<Duration> {
        let asked = Instant::now();
        let status = self.process.stop(DRAIN).await;
        status.success().then(|| asked.elapsed())
    }

    /// What `GET /readyz` says.
    pub(crate) async fn readiness(&self) -> Result<Value, Error> {
        Ok(self.get("readyz").await?.json().await?)
    }

    /// The sum of a metric's samples that have this text among their labels.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let Ok(answer) = self.get("metrics").await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();

        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        // The sum of none is -0.
        values.fold(0.0, std::ops::Add::add)
    }

    pub(crate) fn log(&self) -> &Path {
        &self.plan.log
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        CLIENT.get(format!("http://127.0.0.1:{}/{path}", self.admin)).send().await
    }

    /// Makes a fault in its subscription, `{"kind": .., "rate": .., "delay_ms": ..}`; null heals.
    pub(crate) async fn set_fault(&self, fault: Value) -> Result<(), Error> {
        let body = json!({ "subscription": "billing", "fault": fault });
        let url = format!("http://127.0.0.1:{}/faults", self.admin);
        let deadline = Instant::now() + DRAIN;
        loop {
            let set = CLIENT.put(&url).bearer_auth(TOKEN).json(&body).send().await;
            match set.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                // A process that was frozen a moment ago has connections to close before it answers on new ones.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn launch(plan: &Plan, http: u16, admin: u16) -> Result<Process, Error> {
    let mut command = Command::new(&plan.program);
    for other in OTHERS {
        command.env_remove(other);
    }
    command
        .env("DATABASE_URL", &plan.database_url)
        .env("KAFKA_BROKERS", &plan.brokers)
        .env("HTTP_ADDR", format!("127.0.0.1:{http}"))
        .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"))
        .env("TENANTS", "demo-acme=acme")
        .env("EVENT_SENDERS", "order=/order:order.completed")
        .env("OPERATOR_TOKEN", TOKEN)
        .env("FAULTS", "on")
        .env("RUST_LOG", "warn,outbox=info")
        .envs(plan.more.iter().map(|(name, value)| (name, value)));
    let name = plan.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut process = Process::spawn(&name, command, &plan.log, Life::WithParent)?;
    let url = format!("http://127.0.0.1:{admin}/readyz");
    let ready = async || CLIENT.get(&url).send().await.is_ok_and(|it| it.status().is_success());
    process.until_ready(ready).await?;
    Ok(process)
}

/// Two different ones.
pub(crate) fn free_ports() -> std::io::Result<(u16, u16)> {
    let listen = || TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (listen()?, listen()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}
