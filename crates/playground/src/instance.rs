use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use sandbox::{Life, Process, ProcessRecord};
use serde_json::{Value, json};

use crate::{Error, Ports, admin, environment};

/// Time limit for a service to drain after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(12);
/// Time limit for the admin port to set a fault.
const FAULT_SET_WITHIN: Duration = Duration::from_secs(10);

/// The configuration of an instance, used for each start.
#[derive(Clone, Debug)]
pub(crate) struct InstanceConfig {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
    /// Settings for the first start only.
    pub(crate) first_settings: Vec<(String, String)>,
    pub(crate) ports: Ports,
    pub(crate) log: PathBuf,
    pub(crate) life: Life,
}

/// One instance of a service: a child process that is running, or one that has ended and can be
/// started again.
///
/// Dropping it kills the process.
#[derive(Debug)]
pub struct Instance {
    /// The port of its public API, on 127.0.0.1.
    pub http: u16,
    /// The port of its admin API, on 127.0.0.1.
    pub admin: u16,
    /// Its process, to be paused, resumed or killed.
    pub process: Process,
    config: InstanceConfig,
}

impl Instance {
    pub(crate) async fn start(mut config: InstanceConfig) -> Result<Self, Error> {
        let first_settings = std::mem::take(&mut config.first_settings);
        let process = launch(&config, &first_settings).await?;
        Ok(Self { http: config.ports.http, admin: config.ports.admin, process, config })
    }

    /// Starts it again on the same ports after it has ended, and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Sandbox`] if it ends instead or does not become ready.
    pub async fn start_again(&mut self) -> Result<(), Error> {
        self.process = launch(&self.config, &[]).await?;
        Ok(())
    }

    /// Returns how it ended by itself. Returns `None` if it is still running after `limit`.
    pub async fn died_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(limit, self.process.wait()).await.ok()
    }

    /// Sends SIGTERM. Returns how long it took to end, or `None` if it had to be killed or reported
    /// a failure.
    pub async fn terminate(&mut self) -> Option<Duration> {
        let asked = Instant::now();
        let status = self.process.stop(GRACE).await;
        status.success().then(|| asked.elapsed())
    }

    /// Kills it like `kill -9`, and waits until it has ended.
    pub async fn kill_9(&mut self) -> ExitStatus {
        self.process.kill_9().await
    }

    /// Returns the path of its log.
    pub fn log(&self) -> &Path {
        &self.config.log
    }

    /// Returns the body of `GET /readyz`.
    ///
    /// # Errors
    /// [`Error::Http`] if there is no response, or it is no JSON.
    pub async fn readiness(&self) -> Result<Value, Error> {
        let answered = async { admin::get(self.admin, "readyz").await?.json().await };
        answered.await.map_err(self.failed("GET /readyz"))
    }

    /// Returns the sum of a metric's samples whose labels contain this text. Returns 0 if there is
    /// no response.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let Ok(answer) = admin::get(self.admin, "metrics").await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        // `sum` of no values would be -0.
        values.fold(0.0, std::ops::Add::add)
    }

    /// Sets a fault in the subscription with the service's name, `{"kind": .., "rate": ..,
    /// "delay_ms": ..}`; `null` removes it. The instance needs the settings `FAULTS=on` and
    /// `OPERATOR_TOKEN`.
    ///
    /// # Errors
    /// [`Error::Http`] if the admin port refuses it or does not answer for 10 s.
    pub async fn set_fault(&self, fault: Value) -> Result<(), Error> {
        let body = json!({ "subscription": self.config.name, "fault": fault });
        let token = self.setting("OPERATOR_TOKEN").unwrap_or_default();
        let deadline = Instant::now() + FAULT_SET_WITHIN;
        loop {
            match admin::put(self.admin, "faults", token, &body).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(self.failed("PUT /faults")(error));
                }
                // A process that was frozen has to close old connections before it answers on new
                // ones.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Leaves it running. Returns a record with which a later process can find it.
    pub(crate) fn detach(self) -> Result<ProcessRecord, Error> {
        let mut record = self.process.detach()?;
        record.port = Some(self.http);
        Ok(record)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let mut settings = self.config.settings.iter().rev();
        settings.find(|setting| setting.0 == name).map(|setting| setting.1.as_str())
    }

    fn failed(&self, request: &str) -> impl FnOnce(reqwest::Error) -> Error {
        let (service, request) = (self.config.name.clone(), request.to_owned());
        |source| Error::Http { service, request, source }
    }
}

async fn launch(
    config: &InstanceConfig,
    first_settings: &[(String, String)],
) -> Result<Process, Error> {
    let mut command = Command::new(&config.program);
    environment::scrub(&mut command);
    let settings = config.settings.iter().chain(first_settings);
    command.envs(settings.map(|(name, value)| (name, value)));
    let mut process = Process::spawn(&config.name, command, &config.log, config.life)?;
    process.until_ready(async || admin::readiness(config.ports.admin).await.is_ready()).await?;
    Ok(process)
}
