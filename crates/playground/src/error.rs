use std::{io, path::PathBuf, time::Duration};

use kafka::rdkafka::error::KafkaError;

/// Why the system could not be started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server or a service failed to start, or ended.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A program is not built.
    #[error("there is no program {name} in {}; it has to be built first", .folder.display())]
    NoProgram {
        /// The program's name.
        name: String,
        /// The folder in which it was looked for.
        folder: PathBuf,
    },
    /// Fixed ports that other processes listen on.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    PortsTaken(Vec<sandbox::Error>),
    /// A service runs, and its consumer group got no partitions.
    #[error("{name} consumes nothing; its log ends with:\n{tail}")]
    ConsumesNothing {
        /// The service's name.
        name: String,
        /// The last lines that it logged.
        tail: String,
        /// What was waited for.
        source: Box<Error>,
    },
    /// Another process starts or stops the local system.
    #[error("another `playground local` is at work in {}", .0.display())]
    Busy(PathBuf),
    /// A process that was killed did not end.
    #[error("{0} still runs, though it was killed")]
    StillRuns(String),
    /// The local system does not run.
    #[error("nothing answers on {0}")]
    NotRunning(String),
    /// A request to a service failed.
    #[error("{request} to {service}")]
    Http {
        /// The service's name.
        service: String,
        /// Method and path.
        request: String,
        /// What the client said.
        source: reqwest::Error,
    },
    /// A service answered something else than what was asked for.
    #[error("{service} answered {request} with {answer}")]
    Answer {
        /// The service's name.
        service: String,
        /// Method and path.
        request: String,
        /// Status and body.
        answer: String,
    },
    /// Kafka refused a request or did not answer.
    #[error("{doing}")]
    Kafka {
        /// What was being done.
        doing: String,
        /// What the client said.
        source: KafkaError,
    },
    /// Something did not happen in time.
    #[error("waited {limit:?} in vain: {until}")]
    TooLate {
        /// What was waited for.
        until: String,
        /// How long.
        limit: Duration,
    },
    /// The system did what it must not do.
    #[error("{0}")]
    Untrue(String),
    /// The operating system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        |source| Self::Kafka { doing, source }
    }

    /// Returns whether a process ended because another one listens on its port.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Sandbox(sandbox::Error::Ended { tail, .. }) if tail.contains("in use"))
    }

    /// Returns what to do next, unless the error says it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        use sandbox::Error as Sandbox;
        Some(match self {
            Self::NoProgram { .. } => {
                "`make demo` and `make local` do so; by hand: cargo build --workspace --bins"
            }
            Self::PortsTaken(_) | Self::Sandbox(Sandbox::PortTaken { .. }) => {
                "end what holds it, then do this again. Nothing was left running."
            }
            Self::Busy(_) => "wait until it has ended, then do this again",
            Self::NotRunning(_) => "start the system first: make local",
            // These say it themselves.
            Self::Sandbox(
                Sandbox::MissingTools(_) | Sandbox::Fetch { .. } | Sandbox::NoPostgresUser,
            ) => return None,
            Self::StillRuns(_) => "end it by hand (another user's? see `ps`), then do this again",
            Self::Kafka { .. } => "check that Kafka is there and answers, then do this again",
            Self::Http { .. } | Self::Answer { .. } => {
                "check that the service is ready (its /readyz and its log say), then do this again"
            }
            Self::Io { .. } => "check that this user may do that, then do this again",
            _ => {
                "do this again with RUST_LOG=debug for more lines of log; nothing was left running"
            }
        })
    }
}
