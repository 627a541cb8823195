use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use crate::{MissingTools, port::Holder};

/// Error of a server or a process. Its message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs are not installed. The message names each with the command that installs it.
    #[error(transparent)]
    MissingTools(#[from] MissingTools),
    /// The requested port is taken.
    #[error("port {port} is taken by {}", .holder.as_ref().map_or_else(|| "another process".into(), ToString::to_string))]
    PortTaken {
        /// The requested port.
        port: u16,
        /// The process that listens on it, if it is visible.
        holder: Option<Holder>,
    },
    /// The process ended although it should have continued or succeeded.
    #[error("{name} ended ({status}); its log {} ends with:\n{tail}", .log.display())]
    Ended {
        /// Name of the process.
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its log file. Already removed if it was in a temporary folder.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// The process runs and does not answer.
    #[error("{name} did not answer within {after:?}; its log {} ends with:\n{tail}", .log.display())]
    NotReady {
        /// Name of the process.
        name: String,
        /// Time that the caller waited.
        after: Duration,
        /// Its log file.
        log: PathBuf,
        /// Last lines of the log.
        tail: String,
    },
    /// Maven could not fetch Kafka or Postgres.
    #[error(
        "Maven could not fetch {what}. It needs the network once (or a mirror in ~/.m2/settings.xml); run this again once it is available. Maven's last lines:\n{tail}"
    )]
    Fetch {
        /// Name and version of the artifact.
        what: &'static str,
        /// Maven's last lines.
        tail: String,
    },
    /// Postgres refuses to run as root, and the users that it could run as do not exist.
    #[error(
        "Postgres refuses to run as root and there is no user `postgres` or `nobody` to run it as; either do this as another user, or create the first: sudo useradd --system postgres"
    )]
    NoPostgresUser,
    /// The name of a database would need quotes.
    #[error(
        "{0:?} is not a valid database name: use up to 40 lower-case letters, digits and _, a letter first"
    )]
    DatabaseName(String),
    /// A process that ends with its parent, or whose folder is temporary, can't be detached.
    #[error(
        "{0} can't be left running: start it with `Life::MayOutlive`, and a server with `Data::Kept` too"
    )]
    NotDetachable(String),
    /// An operation of the operating system failed.
    #[error("{doing}")]
    Io {
        /// The attempted operation.
        doing: String,
        /// Error of the system.
        source: io::Error,
    },
    /// An operation of Postgres failed.
    #[error("{doing}")]
    Database {
        /// The attempted operation.
        doing: String,
        /// Error of Postgres.
        source: sqlx::Error,
    },
}

/// Adds the attempted operation to an error.
pub(crate) trait OperationContext<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> OperationContext<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source })
    }
}

impl<T> OperationContext<T> for Result<T, sqlx::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Database { doing: what(), source })
    }
}
