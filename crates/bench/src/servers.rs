//! Runs Postgres, Kafka and the services as child processes.

use std::path::PathBuf;

use kafka::Settings;
use playground::{Instance, Launch, System, SystemOptions, programs_folder};
use sandbox::{Console, MissingTools, ServersOptions, Tools};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};

use crate::Fallible;

/// The servers of one run of the benchmark.
pub(crate) struct Bench {
    system: System,
    tools: Tools,
}

impl Bench {
    /// Starts the servers, Postgres with additional settings.
    pub(crate) async fn start(
        console: &Console,
        fsync: &str,
        postgres: &[(&str, &str)],
    ) -> Fallible<Self> {
        let tools = Tools::find()?;
        let settings = |settings: &[(&str, &str)]| {
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let durable = [("fsync", fsync), ("full_page_writes", fsync)];
        let options = SystemOptions {
            servers: ServersOptions {
                // Temporary servers run without fsync by default, but commits are a large part of
                // the measured time.
                postgres_settings: settings(&[&durable, postgres].concat()),
                ..ServersOptions::default()
            },
            settings: settings(&[("TENANTS", "bench=bench"), ("RUST_LOG", "warn")]),
            ..SystemOptions::new(programs_folder()?)
        };
        Ok(Self { system: System::start(options, &tools, console).await?, tools })
    }

    /// Returns the ids of the processes of Postgres, which has children, and Kafka.
    pub(crate) fn server_pids(&mut self) -> (u32, u32) {
        let servers = &mut self.system.servers;
        (servers.postgres.process().pid(), servers.kafka.process().pid())
    }

    /// Returns the URL of `database` for the superuser.
    pub(crate) fn admin_url(&self, database: &str) -> String {
        self.system.servers.postgres.admin_url(database)
    }

    pub(crate) async fn stop(self) {
        self.system.stop().await;
    }

    /// Writes to the disk what earlier rows have left in memory. Otherwise a row is measured while
    /// Postgres and the system write it, and its commits wait for them.
    pub(crate) async fn settle(&self) -> Fallible<()> {
        PgConnection::connect(&self.admin_url("postgres")).await?.execute("checkpoint").await?;
        let synced = tokio::process::Command::new("sync").status().await?;
        if synced.success() { Ok(()) } else { Err("sync failed".into()) }
    }

    /// Returns the path of a program that comes with Postgres. Fails if it is not installed.
    pub(crate) fn postgres_program(&self, name: &str) -> Result<PathBuf, MissingTools> {
        self.tools.postgres_program(name)
    }

    /// Returns a folder for temporary files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.system.servers.kafka.folder().join("bench")
    }

    /// Returns the settings of a Kafka client. Rows with different prefixes do not consume each
    /// other's events.
    pub(crate) fn settings(&self, prefix: &str) -> Settings {
        Settings::new(self.system.servers.kafka.brokers(), prefix)
    }

    /// Creates a database. Returns its URL.
    pub(crate) async fn database(&self, name: &str) -> Fallible<String> {
        Ok(self.system.servers.postgres.create_database(name).await?)
    }

    /// Starts a service with a topic prefix and log level `warn`, and waits until it is ready.
    pub(crate) async fn service(&self, name: &str, url: &str, prefix: &str) -> Fallible<Instance> {
        self.service_with(name, url, prefix, &[]).await
    }

    /// Does the same with additional settings.
    pub(crate) async fn service_with(
        &self,
        name: &str,
        url: &str,
        prefix: &str,
        settings: &[(&str, &str)],
    ) -> Fallible<Instance> {
        let launch = Launch::new(name).database_url(url).setting("KAFKA_TOPIC_PREFIX", prefix);
        let launch = settings.iter().fold(launch, |all, (name, value)| all.setting(*name, *value));
        Ok(self.system.launcher.start(launch).await?)
    }
}

/// Connects a pool that, as a service's, sends no ping before each use. Slow statements, such as
/// those that fill a table, are not logged.
pub(crate) async fn pool(url: &str) -> Fallible<PgPool> {
    let database = url.parse::<PgConnectOptions>()?.disable_statement_logging();
    let options = PgPoolOptions::new().max_connections(16).test_before_acquire(false);
    Ok(options.connect_with(database).await?)
}

/// Returns the peak memory of a service since its start, in MB.
pub(crate) fn peak_memory(service: &Instance) -> Fallible<f64> {
    memory_line(service, "VmHWM:")
}

/// Returns the resident memory of a service, in MB.
pub(crate) fn memory(service: &Instance) -> Fallible<f64> {
    memory_line(service, "VmRSS:")
}

fn memory_line(service: &Instance, name: &str) -> Fallible<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
