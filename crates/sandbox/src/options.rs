use std::path::PathBuf;

use crate::Life;

/// Where a server keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Data {
    /// In a folder that is removed when the server stops. Postgres does not fsync it.
    #[default]
    Temporary,
    /// In this folder, which is made if needed and stays.
    Kept(PathBuf),
}

/// How to run Postgres or Kafka. The default: temporary, on a free port.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where its data is.
    pub data: Data,
    /// The port on 127.0.0.1, or `None` for a free one.
    pub port: Option<u16>,
    /// The log file, or `None` for one beside the data.
    pub log: Option<PathBuf>,
    /// Whether it may be left running.
    pub life: Life,
    /// Settings in addition to, or instead of, the ones made here, in the server's own words:
    /// `("work_mem", "64MB")`, `("log.segment.bytes", "1048576")`.
    pub settings: Vec<(String, String)>,
}

/// How to run both. The default: temporary, on free ports.
#[derive(Debug, Clone, Default)]
pub struct ServersOptions {
    /// Where their data is: for kept data each has a folder in this one.
    pub data: Data,
    /// Postgres' port on 127.0.0.1, or `None` for a free one.
    pub postgres_port: Option<u16>,
    /// Kafka's port on 127.0.0.1 (of a cluster, the first broker's), or `None` for a free one.
    pub kafka_port: Option<u16>,
    /// Whether Kafka is a cluster of three brokers ([`Kafka::start_cluster`](crate::Kafka::start_cluster)) instead of one.
    pub kafka_cluster: bool,
    /// Settings of Postgres, as [`ServerOptions::settings`].
    pub postgres_settings: Vec<(String, String)>,
    /// Settings of Kafka, as [`ServerOptions::settings`].
    pub kafka_settings: Vec<(String, String)>,
    /// The folder for `postgres.log` and `kafka.log`, or `None` for beside their data.
    pub logs: Option<PathBuf>,
    /// Whether they may be left running.
    pub life: Life,
}

impl ServersOptions {
    /// The options for one of them.
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
