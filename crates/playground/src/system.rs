use std::{collections::HashMap, path::PathBuf};

use kafka::Settings;
use sandbox::{Progress, Servers, ServersOptions, Tools};

use crate::{Error, Launcher};

/// How to start a [`System`].
#[derive(Clone, Debug)]
pub struct SystemOptions {
    /// The folder of the services' programs.
    pub programs: PathBuf,
    /// How to run Postgres and Kafka. Services log to `servers.logs`, by default to a folder that
    /// is removed with Kafka's data. They may outlive their parent if the servers may.
    pub servers: ServersOptions,
    /// The databases to create, each named after its service.
    pub databases: Vec<String>,
    /// Environment variables of every service.
    pub settings: Vec<(String, String)>,
}

impl SystemOptions {
    /// Returns options for temporary servers on free ports, programs in this folder, no database
    /// and no settings.
    pub fn new(programs: impl Into<PathBuf>) -> Self {
        Self {
            programs: programs.into(),
            servers: ServersOptions::default(),
            databases: Vec::new(),
            settings: Vec::new(),
        }
    }
}

/// Postgres and Kafka with the services' databases, and a launcher for services.
///
/// It owns the servers but not the services: drop or terminate instances first.
#[derive(Debug)]
pub struct System {
    /// Postgres and Kafka.
    pub servers: Servers,
    /// Starts services that use the servers.
    pub launcher: Launcher,
}

impl System {
    /// Starts the servers and creates the databases.
    ///
    /// # Errors
    /// [`Error::Sandbox`] if a server does not start.
    pub async fn start(
        options: SystemOptions,
        tools: &Tools,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let SystemOptions { programs, servers, databases, settings } = options;
        let (logs, life) = (servers.logs.clone(), servers.life);
        let servers = Servers::start(servers, tools, progress).await?;
        let mut urls = HashMap::new();
        for name in databases {
            let url = servers.postgres.create_database(&name).await?;
            urls.insert(name, url);
        }
        let launcher = Launcher {
            programs,
            brokers: servers.kafka.brokers(),
            logs: logs.unwrap_or_else(|| servers.kafka.folder().join("services")),
            life,
            databases: urls,
            settings,
        };
        Ok(Self { servers, launcher })
    }

    /// Returns the settings of a Kafka client.
    pub fn kafka(&self) -> Settings {
        Settings::new(self.servers.kafka.brokers(), "")
    }

    /// Stops both servers, and removes their folders if those are temporary.
    pub async fn stop(self) {
        self.servers.stop().await;
    }
}
