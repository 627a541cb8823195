//! `orderflow serve` as a process, with one or more services.

use std::process::Command;

use sandbox::testing::eventually;
use sandbox::{Life, Process};

use crate::service::Service;
use browser::PATIENCE;

pub(crate) struct House {
    pub(crate) service: Service,
    pub(crate) port: u16,
    settings: Vec<(String, String)>,
    process: Process,
    logs: tempfile::TempDir,
}

impl House {
    /// Starts a server on loopback, without sign-in; its acts are recorded as ada's.
    pub(crate) async fn start() -> Self {
        Self::with(&[("OPERATOR_TOKEN", "ada-token")]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let service = Service::start().await;
        let port = sandbox::port::free().unwrap();
        let mut all = vec![
            ("ORDERFLOW_SERVICES".to_owned(), format!("billing=http://{}", service.address)),
            ("KAFKA_BROKERS".to_owned(), "127.0.0.1:1".to_owned()),
            ("CONSOLE_ADDR".to_owned(), format!("127.0.0.1:{port}")),
        ];
        let given = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.replace("{port}", &port.to_string())));
        all.extend(given);
        let logs = tempfile::tempdir().unwrap();
        let process = spawn(&all, &logs);
        let house = Self { service, port, settings: all, process, logs };
        house.answers().await;
        house
    }

    /// Waits until the server listens. By then it has read its settings, and early requests wait.
    async fn answers(&self) {
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok();
        eventually("serve listens", PATIENCE, listens).await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) async fn stop(&mut self) {
        self.process.stop(PATIENCE).await;
    }

    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(&self.settings, &self.logs);
        self.answers().await;
    }
}

/// Returns the command without this machine's settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command.arg("serve");
    for (name, _) in std::env::vars() {
        if ["CONSOLE_", "KAFKA_", "OPERATOR_", "ALERT_", "ADMIN_", "METRICS_"]
            .iter()
            .any(|it| name.starts_with(it))
        {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(settings: &[(String, String)], logs: &tempfile::TempDir) -> Process {
    let mut command = command();
    command.envs(settings.iter().cloned());
    Process::spawn("ops", command, &logs.path().join("ops.log"), Life::WithParent).unwrap()
}
