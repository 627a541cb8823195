//! Postgres and Kafka of the trial's own, and what is asked of them.

use std::path::{Path, PathBuf};

use kafka::Settings;
use sandbox::{Servers, ServersOptions, Silent, Tools};
use sqlx::{Connection, PgConnection};

use super::Error;
use super::instance::{Instance, Plan};

/// The servers, on free ports and with data that goes with them.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) servers: Servers,
    programs: PathBuf,
    order_url: String,
    billing_url: String,
    /// The bug that every service is started with.
    bug: Option<&'static str>,
}

impl System {
    pub(crate) async fn start(programs: &Path, bug: Option<&'static str>) -> Result<Self, Error> {
        let servers = Servers::start(ServersOptions::default(), &Tools::find()?, &Silent).await?;
        let order_url = servers.postgres.create_database("order").await?;
        let billing_url = servers.postgres.create_database("billing").await?;
        Ok(Self { servers, programs: programs.to_owned(), order_url, billing_url, bug })
    }

    pub(crate) async fn order(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        self.instance("order", &self.order_url, more).await
    }

    pub(crate) async fn billing(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        self.instance("billing", &self.billing_url, more).await
    }

    async fn instance(
        &self,
        name: &str,
        database_url: &str,
        more: &[(&str, &str)],
    ) -> Result<Instance, Error> {
        let program = self.programs.join(name);
        if !program.is_file() {
            return Err(format!("{} is not built: run make chaos", program.display()).into());
        }
        let given = more.iter().copied().chain(self.bug.map(|bug| ("SABOTAGE_BUG", bug)));
        let plan = Plan {
            program,
            database_url: database_url.to_owned(),
            brokers: self.servers.kafka.brokers(),
            log: self.servers.kafka.folder().join(format!("{name}.log")),
            more: given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        Instance::start(plan).await
    }

    pub(crate) fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// A session of the superuser's in the database of a service.
    pub(crate) async fn database(&self, name: &str) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.servers.postgres.admin_url(name)).await
    }
}
