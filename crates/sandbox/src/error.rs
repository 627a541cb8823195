use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use crate::{MissingTools, port::Holder};

/// What can go wrong with a server or a process, said so that its reader knows what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs that are not installed; each is named with the command that installs it.
    #[error(transparent)]
    MissingTools(#[from] MissingTools),
    /// A port was asked for that somebody else listens on.
    #[error("port {port} is taken by {}", .holder.as_ref().map_or_else(|| "another process".into(), ToString::to_string))]
    PortTaken {
        /// The port that was asked for.
        port: u16,
        /// Who listens on it, if that can be seen.
        holder: Option<Holder>,
    },
    /// The process ended where it should have gone on or succeeded.
    #[error("{name} ended ({status}); its log {} ends with:\n{tail}", .log.display())]
    Ended {
        /// The process's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log. Already removed if it was in a temporary folder.
        log: PathBuf,
        /// The last lines that it logged.
        tail: String,
    },
    /// The process runs and does not answer.
    #[error("{name} did not answer within {after:?}; its log {} ends with:\n{tail}", .log.display())]
    NotReady {
        /// The process's name.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// Its log.
        log: PathBuf,
        /// The last lines that it logged.
        tail: String,
    },
    /// Maven could not fetch Kafka or Postgres.
    #[error(
        "Maven could not fetch {what}. It needs the network once (or a mirror in ~/.m2/settings.xml); run this again when it is there. Maven's last lines:\n{tail}"
    )]
    Fetch {
        /// What was to be fetched, with its version.
        what: &'static str,
        /// Maven's last lines.
        tail: String,
    },
    /// Postgres refuses to run as root, and the users that it could run as do not exist.
    #[error(
        "Postgres refuses to run as root and there is no user `postgres` or `nobody` to run it as; either do this as another user, or create the first: sudo useradd --system postgres"
    )]
    NoPostgresUser,
    /// A database's name that would need quoting.
    #[error(
        "{0:?} is no name for a database here: lower-case letters, digits and _, at most 40 of them, a letter first"
    )]
    DatabaseName(String),
    /// Asked to leave running what dies with its parent or whose folder is temporary.
    #[error(
        "{0} can't be left running: start it with `Life::MayOutlive`, and a server with `Data::Kept` too"
    )]
    NotDetachable(String),
    /// The operating system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Postgres refused something.
    #[error("{doing}")]
    Database {
        /// What was being done.
        doing: String,
        /// What Postgres said.
        source: sqlx::Error,
    },
}

/// Says what was being done when an error came up.
pub(crate) trait While<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> While<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source })
    }
}

impl<T> While<T> for Result<T, sqlx::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Database { doing: what(), source })
    }
}
