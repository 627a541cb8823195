//! `orderflow serve` as a process, with a service and a topic.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kafka::Settings;
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use sandbox::testing::{TestSpace, eventually};
use sandbox::{Life, Process};

use crate::service::Service;
use crate::topics;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct House {
    pub(crate) service: Service,
    pub(crate) settings: Settings,
    pub(crate) process: Process,
    port: u16,
    logs: tempfile::TempDir,
}

impl House {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let space = TestSpace::new().await;
        let kafka = Settings::new(space.kafka_brokers(), space.topic_prefix());
        create_parcels(&kafka).await;
        let service = Service::start().await;
        let logs = tempfile::tempdir().unwrap();
        let port = sandbox::port::free().unwrap();
        let mut command = command(port);
        command
            .env("ORDERFLOW_SERVICES", format!("billing=http://{}", service.address))
            .env("KAFKA_BROKERS", space.kafka_brokers())
            .env("KAFKA_TOPIC_PREFIX", space.topic_prefix())
            .envs(settings.iter().copied());
        let process = spawn(command, logs.path());
        let house = Self { service, settings: kafka, process, port, logs };
        let answers = async || house.get("healthz").await.filter(|(status, _)| *status == 200);
        eventually("an answer of serve", PATIENCE, answers).await;
        house
    }

    /// Returns status and body.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/{path}", self.port)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Waits until `/metrics` contains this line.
    pub(crate) async fn has(&self, line: &str) -> String {
        let found = async || {
            let (_, text) = self.get("metrics").await?;
            text.lines().any(|it| it == line).then_some(text)
        };
        eventually(&format!("the line {line}"), PATIENCE, found).await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.logs.path().join("ops.log")).unwrap()
    }
}

pub(crate) fn command(port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command.arg("serve").env("CONSOLE_ADDR", format!("127.0.0.1:{port}"));
    for name in ["KAFKA_PROPERTIES", "OPERATOR_TOKEN", "ALERT_WEBHOOK", "ALERT_WEBHOOK_SECRET"] {
        command.env_remove(name);
    }
    command
}

fn spawn(command: Command, logs: &Path) -> Process {
    Process::spawn("ops", command, &logs.join("ops.log"), Life::WithParent).unwrap()
}

async fn create_parcels(kafka: &Settings) {
    topics::create(kafka, "parcels").await;
    let producer: FutureProducer = kafka.producer().create().unwrap();
    let topic = kafka.prefixed("parcels");
    for _ in 0..4 {
        let record = FutureRecord::<[u8], [u8]>::to(&topic).payload(b"{}");
        producer.send_result(record).unwrap().await.unwrap().unwrap();
    }
}
