//! Postgres and Kafka of the trial's own, and what is asked of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kafka::Settings;
use sandbox::{Servers, ServersOptions, Silent, Tools};
use sqlx::{Connection, PgConnection};

use super::Error;
use super::instance::{Instance, Plan, free_ports};

/// The servers, on free ports and with data that goes with them.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) servers: Servers,
    programs: PathBuf,
    databases: HashMap<&'static str, String>,
}

impl System {
    pub(crate) async fn start(programs: &Path) -> Result<Self, Error> {
        let servers = Servers::start(ServersOptions::default(), &Tools::find()?, &Silent).await?;
        let mut databases = HashMap::new();
        for name in ["order", "billing", "notification", "analytics"] {
            databases.insert(name, servers.postgres.create_database(name).await?);
        }
        Ok(Self { servers, programs: programs.to_owned(), databases })
    }

    pub(crate) async fn order(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        self.instance("order", free_ports()?, more).await
    }

    pub(crate) async fn billing(&self, more: &[(&str, &str)]) -> Result<Instance, Error> {
        self.instance("billing", free_ports()?, more).await
    }

    /// A service on these ports, HTTP and admin.
    pub(crate) async fn instance(
        &self,
        name: &'static str,
        ports: (u16, u16),
        more: &[(&str, &str)],
    ) -> Result<Instance, Error> {
        let program = self.programs.join(name);
        if !program.is_file() {
            return Err(format!("{} is not built: run make chaos", program.display()).into());
        }
        let plan = Plan {
            program,
            database_url: self.databases.get(name).cloned().unwrap_or_default(),
            brokers: self.servers.kafka.brokers(),
            log: self.servers.kafka.folder().join(format!("{name}.log")),
            more: more.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        Instance::start(plan, ports).await
    }

    pub(crate) fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// A session of the superuser's in the database of a service.
    pub(crate) async fn database(&self, name: &str) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.servers.postgres.admin_url(name)).await
    }
}
