//! Postgres and Kafka of a trial, and the services on them.

use std::path::Path;

use kafka::Settings;
use playground::{Instance, Launch, Launcher, Ports, SystemOptions};
use sandbox::{Servers, ServersOptions, Silent, Tools};
use sqlx::{Connection, PgConnection};

use super::Error;
use super::letters;
use super::proxy::Proxy;
use super::releases::Releases;
use super::small_disk::SmallDisk;

/// Settings of every service.
const SETTINGS: [(&str, &str); 6] = [
    ("TENANTS", "demo-acme=acme"),
    ("EVENT_SENDERS", "order=/order:order.completed+acknowledge+track"),
    ("OPERATOR_TOKEN", "operator"),
    ("OPERATOR_TOKENS", letters::OPERATORS),
    ("FAULTS", "on"),
    ("RUST_LOG", "warn,outbox=info"),
];

/// Servers and proxies that a fault needs before the services start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setup {
    /// Servers and services that reach them directly.
    Direct,
    /// A proxy between Kafka and its clients.
    KafkaBehindProxy,
    /// Kafka is a cluster of three brokers. A topic has three replicas of which two have to be in
    /// sync.
    KafkaCluster,
    /// Billing's database on a small file system. Mounting that needs root.
    BillingOnSmallDisk,
    /// Billing's program can be replaced by that of an earlier release.
    TwoReleases,
}

/// Servers on free ports, whose data is removed with them.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) servers: Servers,
    launcher: Launcher,
    proxy: Option<Proxy>,
    disk: Option<SmallDisk>,
    releases: Option<Releases>,
}

impl System {
    /// Starts the servers. The services are those of `releases` if given, and otherwise those in
    /// `programs`.
    pub(crate) async fn start(
        programs: &Path,
        setup: Setup,
        releases: Option<Releases>,
    ) -> Result<Self, Error> {
        let mut settings =
            SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let kafka_cluster = setup == Setup::KafkaCluster;
        let mut servers = ServersOptions { kafka_cluster, ..ServersOptions::default() };
        let programs = releases.as_ref().map_or(programs, Releases::programs);
        let mut proxy = None;
        if setup == Setup::KafkaBehindProxy {
            // It forwards before Kafka starts: a client that waits for Kafka's first answers is led
            // to it, and would wait there.
            let port = sandbox::port::lasting()?;
            let started = Proxy::start(port).await?;
            servers.kafka_port = Some(port);
            settings.push(("KAFKA_BROKERS".into(), started.address().to_owned()));
            let advertised = format!("PLAINTEXT://{}", started.address());
            servers.kafka_settings.push(("advertised.listeners".into(), advertised));
            proxy = Some(started);
        }
        let options = SystemOptions {
            databases: ["order", "billing", "notification", "analytics"].map(Into::into).into(),
            servers,
            settings,
            ..SystemOptions::new(programs)
        };
        let system = playground::System::start(options, &Tools::find()?, &Silent).await?;
        let playground::System { servers, launcher } = system;
        let disk = match setup {
            Setup::BillingOnSmallDisk => {
                Some(SmallDisk::holding(&servers.postgres, "billing").await?)
            }
            _ => None,
        };
        Ok(Self { servers, launcher, proxy, disk, releases })
    }

    /// Returns the proxy between Kafka and its clients. Fails if the fault is set up without one.
    pub(crate) fn proxy(&self) -> Result<&Proxy, Error> {
        self.proxy.as_ref().ok_or_else(|| "the fault is set up without a proxy".into())
    }

    /// Returns the file system of billing's database. Fails if the fault is set up without one.
    pub(crate) fn disk(&self) -> Result<&SmallDisk, Error> {
        self.disk.as_ref().ok_or_else(|| "the fault is set up without a small disk".into())
    }

    /// Returns the programs of both releases. Fails if the fault is set up with one.
    pub(crate) fn releases(&self) -> Result<&Releases, Error> {
        self.releases.as_ref().ok_or_else(|| "the fault is set up with one release".into())
    }

    pub(crate) async fn order(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        Ok(self.launcher.start(launch("order", more)).await?)
    }

    pub(crate) async fn billing(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        Ok(self.launcher.start(launch("billing", more)).await?)
    }

    /// Starts an instance of a service on these ports.
    pub(crate) async fn instance(
        &self,
        name: &'static str,
        ports: Ports,
        more: &[(&str, &str)],
    ) -> Result<Instance, Error> {
        Ok(self.launcher.start(launch(name, more).ports(ports)).await?)
    }

    /// Returns the settings of a Kafka client.
    pub(crate) fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// Opens a session of the superuser in the database of a service.
    pub(crate) async fn database(&self, name: &str) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.servers.postgres.admin_url(name)).await
    }
}

fn launch(name: &str, settings: &[(&str, &str)]) -> Launch {
    settings.iter().fold(Launch::new(name), |launch, (name, value)| match *name {
        // A service that died is restarted without the failure point.
        "SABOTAGE_DIE" => launch.first_setting(*name, *value),
        _ => launch.setting(*name, *value),
    })
}
