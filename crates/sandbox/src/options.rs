use std::path::PathBuf;

use crate::Life;

/// The place of a server's data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Data {
    /// A folder that is removed when the server stops. Postgres does not fsync it.
    #[default]
    Temporary,
    /// This folder, which is created if needed and kept.
    Kept(PathBuf),
}

/// Options of Postgres or Kafka. By default its data is temporary and its port a free one.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Place of its data. Default [`Data::Temporary`].
    pub data: Data,
    /// Port on 127.0.0.1, or `None` (the default) for a free one.
    pub port: Option<u16>,
    /// Log file, or `None` (the default) for one beside the data.
    pub log: Option<PathBuf>,
    /// Lifetime of the server. Default [`Life::WithParent`].
    pub life: Life,
    /// Additional settings, which override those made here, by the server's own names:
    /// `("work_mem", "64MB")`, `("log.segment.bytes", "1048576")`.
    pub settings: Vec<(String, String)>,
}

/// Options of both servers. By default their data is temporary and their ports are free ones.
#[derive(Debug, Clone, Default)]
pub struct ServersOptions {
    /// Place of their data. Within a kept folder each server has its own. Default
    /// [`Data::Temporary`].
    pub data: Data,
    /// Postgres' port on 127.0.0.1, or `None` (the default) for a free one.
    pub postgres_port: Option<u16>,
    /// Kafka's port on 127.0.0.1 (the first broker's in a cluster), or `None` (the default) for a
    /// free one.
    pub kafka_port: Option<u16>,
    /// Whether Kafka is a cluster of three brokers
    /// ([`Kafka::start_cluster`](crate::Kafka::start_cluster)) instead of one. Default `false`.
    pub kafka_cluster: bool,
    /// Settings of Postgres, as in [`ServerOptions::settings`].
    pub postgres_settings: Vec<(String, String)>,
    /// Settings of Kafka, as in [`ServerOptions::settings`].
    pub kafka_settings: Vec<(String, String)>,
    /// Folder of `postgres.log` and `kafka.log`, or `None` (the default) for files beside their
    /// data.
    pub logs: Option<PathBuf>,
    /// Lifetime of both servers. Default [`Life::WithParent`].
    pub life: Life,
}

impl ServersOptions {
    /// Returns the options of one server.
    pub(crate) fn each(
        &self,
        name: &str,
        port: Option<u16>,
        settings: &[(String, String)],
    ) -> ServerOptions {
        ServerOptions {
            data: match &self.data {
                Data::Temporary => Data::Temporary,
                Data::Kept(folder) => Data::Kept(folder.join(name)),
            },
            port,
            log: self.logs.as_ref().map(|folder| folder.join(format!("{name}.log"))),
            life: self.life,
            settings: settings.to_owned(),
        }
    }
}
