//! Postgres, Kafka and the services, as child processes.

use std::env;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kafka::Settings;
use sandbox::{Console, Kafka, Life, Postgres, Process, ServerOptions, Tools};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::Outcome;
use crate::client::Client;

/// How long a service may take to drain.
const GRACE: Duration = Duration::from_secs(12);

/// The servers of one run.
pub(crate) struct Bench {
    // Dropped in this order.
    postgres: Postgres,
    kafka: Kafka,
    tools: Tools,
}

/// A service that runs.
pub(crate) struct Service {
    process: Process,
    pub(crate) port: u16,
}

impl Bench {
    pub(crate) async fn start(console: &Console, fsync: &str) -> Outcome<Self> {
        let tools = Tools::find()?;
        let postgres = ServerOptions {
            // What is temporary is not fsynced, but a commit is a good part of what is measured here.
            settings: [("fsync", fsync), ("full_page_writes", fsync)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..ServerOptions::default()
        };
        let (postgres, kafka) = tokio::try_join!(
            Postgres::start(postgres, &tools, console),
            Kafka::start(ServerOptions::default(), &tools, console)
        )?;
        Ok(Self { postgres, kafka, tools })
    }

    pub(crate) async fn stop(self) {
        tokio::join!(self.postgres.stop(), self.kafka.stop());
    }

    /// A program that comes with Postgres.
    pub(crate) fn postgres_program(&self, name: &str) -> PathBuf {
        self.tools.postgres_program(name)
    }

    /// A folder for what is not kept.
    pub(crate) fn folder(&self) -> PathBuf {
        self.kafka.folder().join("bench")
    }

    /// A Kafka client's settings; rows that have prefixes of their own don't hear each other.
    pub(crate) fn settings(&self, prefix: &str) -> Settings {
        Settings::new(self.kafka.brokers(), prefix)
    }

    /// The URL of a database.
    pub(crate) async fn database(&self, name: &str) -> Outcome<String> {
        Ok(self.postgres.create_database(name).await?)
    }

    /// Starts a service in this prefix, as production does but for what it logs, and waits until it is ready.
    pub(crate) async fn service(&self, name: &str, url: &str, prefix: &str) -> Outcome<Service> {
        let program = env::current_exe()?.with_file_name(name);
        if !program.is_file() {
            return Err(format!("{} is not built; `make bench` does it", program.display()).into());
        }
        let (port, admin) = free_ports()?;
        let mut command = Command::new(program);
        for other in ["KAFKA_PROPERTIES", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            command.env_remove(other);
        }
        command
            .env("DATABASE_URL", url)
            .env("KAFKA_BROKERS", self.kafka.brokers())
            .env("KAFKA_TOPIC_PREFIX", prefix)
            .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"))
            .env("TENANTS", "bench=bench")
            .env("RUST_LOG", "warn");
        let log = self.folder().join(format!("{name}.log"));
        let mut process = Process::spawn(name, command, &log, Life::WithParent)?;
        process.until_ready(async || is_ready(admin).await.unwrap_or(false)).await?;
        Ok(Service { process, port })
    }
}

impl Service {
    pub(crate) async fn stop(mut self) {
        self.process.stop(GRACE).await;
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.process.kill_9().await;
    }
}

async fn is_ready(admin: u16) -> Outcome<bool> {
    let request = b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n";
    let (status, _) = Client::connect(admin).await?.send(request).await?;
    Ok(status == 200)
}

/// Two different ones.
fn free_ports() -> Outcome<(u16, u16)> {
    let listen = || TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (listen()?, listen()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

/// A pool like a service's: no ping before each use.
pub(crate) async fn pool(url: &str) -> Outcome<PgPool> {
    let options = PgPoolOptions::new().max_connections(16).test_before_acquire(false);
    Ok(options.connect(url).await?)
}
